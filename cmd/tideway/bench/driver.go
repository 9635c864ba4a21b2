package bench

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"
)

// drive has a driver open connections, and keep them. With none, it breaks those
// that it has.
type drive struct {
	visit
	Clients int `json:"clients"`
}

// visit says where connections go, and how.
type visit struct {
	URLs     []string      `json:"urls"` // of servers, over which the members of each group are spread
	Header   []string      `json:"header,omitempty"`
	Stranger bool          `json:"stranger,omitempty"` // the servers may be elsewhere
	Deflate  bool          `json:"deflate,omitempty"`
	Hello    string        `json:"hello,omitempty"`
	Replies  int           `json:"replies,omitempty"`
	First    int           `json:"first,omitempty"` // the number of the first group
	Groups   int           `json:"groups"`
	Dialers  int           `json:"dialers"`
	Nap      time.Duration `json:"nap"`
}

// options resolves the servers.
func (v *visit) options(ctx context.Context) (fleetOptions, error) {
	o := fleetOptions{base: v.First, groups: v.Groups, dialers: v.Dialers, nap: v.Nap, hello: v.Hello, replies: v.Replies}
	for _, url := range v.URLs {
		t, err := parseTarget(ctx, url, v.Header, v.Stranger)
		if err != nil {
			return o, err
		}
		if v.Deflate {
			t.header += deflateOffer
		}
		o.targets = append(o.targets, t)
	}
	return o, nil
}

// driven is what opening them took.
type driven struct {
	Elapsed   time.Duration `json:"elapsed"`
	Handshake Histogram     `json:"handshake"`
	Refused   int64         `json:"refused"`
}

// gather has a driver wait for what so many messages deliver to its clients, and
// say what arrived since it was asked last.
type gather struct {
	Messages int `json:"messages"`
}

// gathered is what arrived.
type gathered struct {
	Want     int64         `json:"want"`
	Messages int64         `json:"messages"`
	Lost     int           `json:"lost"` // connections that ended
	Latency  Histogram     `json:"latency"`
	Busy     time.Duration `json:"busy"` // CPU time of the reading thread, since its start
	Problem  string        `json:"problem,omitempty"`
}

// driver is a load client in a process of its own, for more connections than one
// process may have.
type driver struct {
	fleet *fleet // nil before the first order
}

func (d *driver) drive(ctx context.Context, o drive) (*driven, error) {
	if d.fleet != nil {
		d.fleet.close()
		d.fleet = nil
	}
	if o.Clients == 0 {
		return &driven{}, nil
	}
	o.Groups = min(o.Groups, o.Clients)
	opts, err := o.options(ctx)
	if err != nil {
		return nil, err
	}
	if d.fleet, err = newFleet(o.Clients, opts); err != nil {
		return nil, err
	}
	opened, err := d.fleet.dial(ctx, 0, o.Clients, 0)
	if err == nil {
		err = d.fleet.greeted(ctx, o.Clients)
	}
	if err != nil {
		return nil, err
	}
	return &driven{opened.elapsed, opened.handshake, opened.refused}, nil
}

func (d *driver) gather(ctx context.Context, o gather) (*gathered, error) {
	if d.fleet == nil {
		return nil, errors.New("a driver has nothing before it drives")
	}
	want := d.fleet.expected(o.Messages)
	d.fleet.arrived(ctx, want, quiet)
	c := d.fleet.sink.counts()
	d.fleet.sink.reset()
	out := &gathered{Want: want, Messages: c.messages, Lost: c.lost, Latency: c.latency, Busy: d.fleet.poller.busy()}
	if c.problem != nil {
		out.Problem = c.problem.Error()
	}
	return out, ctx.Err()
}

// Publish implements Served.
func (d *driver) Publish(int, []byte) error { return errors.New("a driver publishes nothing") }

// Connections implements Served.
func (d *driver) Connections() int { return 0 }

// Close implements Served.
func (d *driver) Close() {
	if d.fleet != nil {
		d.fleet.close()
	}
}

// sparse is a histogram on its way to another process.
type sparse struct {
	Max     int64            `json:"max"`
	Buckets map[string]int64 `json:"buckets"`
}

// MarshalJSON implements [json.Marshaler]: the buckets that are not empty.
func (h Histogram) MarshalJSON() ([]byte, error) {
	s := sparse{h.max, map[string]int64{}}
	for i, n := range h.buckets {
		if n > 0 {
			s.Buckets[strconv.Itoa(i)] = n
		}
	}
	return json.Marshal(s)
}

// UnmarshalJSON implements [json.Unmarshaler].
func (h *Histogram) UnmarshalJSON(b []byte) error {
	var s sparse
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	*h = Histogram{max: s.Max}
	for k, n := range s.Buckets {
		i, err := strconv.Atoi(k)
		if err != nil || i < 0 || i >= numBuckets || n < 0 {
			return errors.New("no bucket of a histogram: " + strconv.Quote(k))
		}
		h.buckets[i] = n
		h.count += n
	}
	return nil
}
