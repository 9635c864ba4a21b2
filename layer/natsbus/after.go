package natsbus

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

// codeIDPending says that a message with the same id is being stored.
const codeIDPending jetstream.ErrorCode = 10158

// expect makes a publish conditional on the group's newest message. A stamp of
// another epoch is a conflict.
func (l *link) expect(ctx context.Context, h *history, after *layer.Stamp) ([]jetstream.PublishOpt, error) {
	if after == nil {
		return nil, nil
	}
	if after.Epoch != 0 && after.Epoch != h.epoch.Load() {
		if err := l.bus.learnEpoch(ctx, h); err != nil {
			return nil, err
		}
		if after.Epoch != h.epoch.Load() {
			return nil, fmt.Errorf("%w: its store was made anew", layer.ErrConflict)
		}
	}
	return []jetstream.PublishOpt{jetstream.WithExpectLastSequencePerSubject(after.Sequence)}, nil
}

// perhapsStored finds out whether a message that was refused, because the group
// has gone on, is itself what the group has gone on with: a single server looks at
// the expected sequence before it looks at the id. Only the leader is asked.
func (l *link) perhapsStored(ctx context.Context, h *history, group, id string, after *layer.Stamp, refusal error) (*jetstream.PubAck, error) {
	var api *jetstream.APIError
	if !errors.As(refusal, &api) || api.ErrorCode != codeWrongLast {
		return nil, refusal
	}
	m, err := l.bus.leaderGet(ctx, h.stream, msgGet{Seq: after.Sequence + 1, NextFor: l.bus.subjects.group(group)})
	if err != nil {
		return nil, fmt.Errorf("%w: refused, but perhaps since it is stored already (%w)", layer.ErrUnknown, err)
	}
	if m != nil && id != "" {
		header, err := nats.DecodeHeadersMsg(m.Header)
		if err == nil && slices.Contains(header[idHeader], id) {
			return &jetstream.PubAck{Sequence: m.Seq, Duplicate: true}, nil
		}
	}
	return nil, fmt.Errorf("%w (%w)", layer.ErrConflict, refusal)
}
