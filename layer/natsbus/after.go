package natsbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/layer"
)

// codeIDPending says that a message with the same id is being stored.
const codeIDPending jetstream.ErrorCode = 10158

// expectHeader makes a publish conditional on the subject's newest message.
const expectHeader = "Nats-Expected-Last-Subject-Sequence"

// storeAfter is Store with a condition.
func (l *link) storeAfter(ctx context.Context, h *history, d *draft, id string, after *layer.Stamp) (layer.Stamp, bool, error) {
	ctx, end := l.calls.begin(ctx, roundTrip)
	defer end()
	if err := l.bus.expect(ctx, h, after); err != nil {
		return layer.Stamp{}, false, l.unread(ctx, storing, err)
	}
	d.set(expectHeader, strconv.FormatUint(after.Sequence, 10))
	epoch := h.epoch.Load()
	ack, err := l.publishStored(ctx, &d.msg, h.stream)
	if err != nil {
		ack, err = l.perhapsStored(ctx, h, d.msg.Subject, id, after, err)
	}
	if err != nil {
		return layer.Stamp{}, false, l.notStored(ctx, h, err)
	}
	return layer.Stamp{Epoch: epoch, Sequence: ack.Sequence}, ack.Duplicate, nil
}

// expect checks that a stamp is of the store that there is. One of another epoch
// is a conflict.
func (b *Bus) expect(ctx context.Context, h *history, after *layer.Stamp) error {
	if after.Epoch == 0 || after.Epoch == h.epoch.Load() {
		return nil
	}
	if err := b.learnEpoch(ctx, h); err != nil {
		return err
	}
	if after.Epoch != h.epoch.Load() {
		return fmt.Errorf("%w: its store was made anew", layer.ErrConflict)
	}
	return nil
}

// perhapsStored finds out whether a message that was refused, because the group
// has gone on, is itself what the group has gone on with: a single server looks at
// the expected sequence before it looks at the id. Only the leader is asked.
func (l *link) perhapsStored(ctx context.Context, h *history, subject, id string, after *layer.Stamp, refusal error) (storeAck, error) {
	var api *jetstream.APIError
	if !errors.As(refusal, &api) || api.ErrorCode != codeWrongLast {
		return storeAck{}, refusal
	}
	m, err := l.bus.leaderGet(ctx, h.stream, msgGet{Seq: after.Sequence + 1, NextFor: subject})
	if err != nil {
		return storeAck{}, fmt.Errorf("%w: refused, but perhaps since it is stored already (%w)", layer.ErrUnknown, err)
	}
	if m != nil && id != "" {
		header, err := nats.DecodeHeadersMsg(m.Header)
		if err == nil && slices.Contains(header[idHeader], id) {
			return storeAck{Sequence: m.Seq, Duplicate: true}, nil
		}
	}
	return storeAck{}, fmt.Errorf("%w (%w)", layer.ErrConflict, refusal)
}
