package job

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tideway-go/tideway/layer"
)

// Summary is a job in the index. Each is also a message of type "job.index" in
// [IndexGroup], which tells whoever joins it that a job came or ended.
type Summary struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"`
	Title     string    `json:"title,omitempty"`
	State     State     `json:"state"`
	By        string    `json:"by,omitempty"`
	Targets   int       `json:"targets,omitempty"`
	Error     string    `json:"error,omitempty"`
	RetryOf   string    `json:"retry_of,omitempty"`
	Submitted time.Time `json:"submitted"`
	Ended     time.Time `json:"ended,omitzero"`
}

// MessageType implements layer.Payload.
func (Summary) MessageType() string { return "job.index" }

func (s *Status) summary() Summary {
	return Summary{
		ID: s.ID, Kind: s.Kind, Title: s.Title, State: s.State, By: s.By, Targets: len(s.Targets), Error: clip(s.Error, maxName),
		RetryOf: s.RetryOf, Submitted: s.Submitted, Ended: s.Ended,
	}
}

// enter writes a job's coming or its end into the index. What does not get there
// is made good by whoever works on the job next, or by [List].
func enter(ctx context.Context, l *layer.Layer, s *Status) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), enterPatience)
	defer cancel()
	e := s.summary()
	_, _ = l.Publish(ctx, IndexGroup, e, &layer.PublishOptions{ID: e.ID + "." + string(e.State)})
}

const enterPatience = 5 * time.Second

// ListOptions are the settings of [List]. A nil *ListOptions and the zero
// ListOptions mean the defaults.
type ListOptions struct {
	// Kind is the kind of the jobs. Default: all.
	Kind string

	// Only says of which kinds jobs may be shown. Default: of all.
	Only func(kind string) bool

	// States are the states of the jobs. Default: all.
	States []State

	// Limit is how many jobs there are at most. Default 100.
	Limit int
}

// List returns the jobs of the last 7 days, the newest first. Those that have not
// ended are looked at one by one, for their state of now.
func List(ctx context.Context, l *layer.Layer, opts *ListOptions) ([]Summary, error) {
	var o ListOptions
	if opts != nil {
		o = *opts
	}
	if o.Limit < 0 {
		return nil, fmt.Errorf("job: ListOptions.Limit is %d, less than 0", o.Limit)
	}
	o.Limit = orDefault(o.Limit, 100)
	all, err := readIndex(ctx, l)
	if err != nil {
		return nil, err
	}
	var found []Summary
	for _, s := range all {
		if len(found) == o.Limit {
			break
		}
		if o.Kind != "" && s.Kind != o.Kind || o.Only != nil && !o.Only(s.Kind) {
			continue
		}
		if !s.State.Terminal() {
			now, err := Get(ctx, l, s.ID)
			if errors.Is(err, ErrNoJob) {
				continue
			}
			if err != nil {
				return nil, err
			}
			s = now.summary()
		}
		if len(o.States) == 0 || slices.Contains(o.States, s.State) {
			found = append(found, s)
		}
	}
	return found, nil
}

// readIndex returns what the index says, the newest job first.
func readIndex(ctx context.Context, l *layer.Layer) ([]Summary, error) {
	at := map[string]int{}
	var all []Summary
	for m, err := range l.History(ctx, IndexGroup, layer.Position{}, 0) {
		if err != nil {
			return nil, fmt.Errorf("job: index: %w", err)
		}
		var s Summary
		if m.Type != s.MessageType() || m.Decode(&s) != nil || CheckID(s.ID) != nil {
			continue
		}
		if i, known := at[s.ID]; !known {
			at[s.ID] = len(all)
			all = append(all, s)
		} else if !all[i].State.Terminal() {
			all[i] = s
		}
	}
	slices.SortStableFunc(all, func(a, b Summary) int { return b.Submitted.Compare(a.Submitted) })
	return all, nil
}
