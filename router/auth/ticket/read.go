package ticket

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// read returns the record below key. It asks the leader of the bucket's stream:
// KeyValue.Get may be answered by a replica that has not heard yet of a ticket
// issued a moment ago.
func (t *Tickets) read(ctx context.Context, key string) (record, uint64, error) {
	question, err := json.Marshal(map[string]string{"last_by_subj": "$KV." + t.opts.Bucket + "." + key})
	if err != nil {
		return record{}, 0, fmt.Errorf("ticket: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	answer, err := t.js.Conn().RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET.KV_"+t.opts.Bucket, question)
	if err != nil {
		return record{}, 0, unavailable(err)
	}
	var got struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Seq  uint64 `json:"seq"`
			Data []byte `json:"data"`
		} `json:"message"`
	}
	if err := json.Unmarshal(answer.Data, &got); err != nil {
		return record{}, 0, unavailable(fmt.Errorf("the broker's answer is no JSON: %w", err))
	}
	switch {
	case got.Error != nil && got.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return record{}, 0, errRefused
	case got.Error != nil:
		return record{}, 0, unavailable(got.Error)
	case len(got.Message.Data) == 0: // the marker of a ticket that was used or ended
		return record{}, 0, errRefused
	}
	var rec record
	if err := json.Unmarshal(got.Message.Data, &rec); err != nil || rec.ID == "" {
		return record{}, 0, unavailable(errors.Join(errors.New("the bucket holds something else below "+key), err))
	}
	return rec, got.Message.Seq, nil
}
