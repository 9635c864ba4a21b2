package bench

import (
	"fmt"
	"strings"
	"testing"
)

// returning is one client of a group that missed three messages.
func returning() (*homecoming, *client) {
	st := &stand{point: Point{Missed: 3}, fleet: &fleet{opts: fleetOptions{groups: 1}, clients: make([]*client, 1)}}
	r := newReturn(st)
	c := &client{wire: &tape{}}
	deliver(&st.fleet.sink, c, groupFrame(r.first, 0))
	r.guests[0].state = guestResumes
	return r, c
}

// groupFrame is a frame of the protocol with message i.
func groupFrame(first int64, i int) []byte {
	text := appendText(nil, first+int64(i), minSize)
	return serverFrame(0x80|opText, fmt.Appendf(nil, `{"group":"bench.0","at":"place-%d","data":{"type":"bench.tick","text":"%s"}}`, i, text))
}

const resumedFrame = `{"joined":"bench.0","outcome":"resumed","replayed":3,"at":"x"}`

// A client is back when it has all that it missed, once and in order, behind an
// answer that says so. Whatever else it gets is a wrong outcome, with a reason.
func TestWhoIsBack(t *testing.T) {
	for _, tt := range []struct {
		name   string
		frames []any // a number is a message
		wrong  string
	}{
		{"all", []any{resumedFrame, 1, 2, 3}, ""},
		{"one is missing", []any{resumedFrame, 1, 3}, "message 3 came where 2 was due"},
		{"one comes twice", []any{resumedFrame, 1, 2, 2, 3}, "message 2 came where 3 was due"},
		{"one comes again, behind all", []any{resumedFrame, 1, 2, 3, 3}, "message 3 came where 4 was due"},
		{"out of order", []any{resumedFrame, 2, 1, 3}, "message 2 came where 1 was due"},
		{"the last does not come", []any{resumedFrame, 1, 2}, "it has 2 of 3 messages"},
		{"nothing comes", nil, "it has 0 of 3 messages"},
		{"as a newcomer", []any{`{"joined":"bench.0","outcome":"live","at":"x"}`}, `"outcome":"live"`},
		{"a gap", []any{`{"joined":"bench.0","outcome":"gap","reason":"trimmed"}`}, `"reason":"trimmed"`},
		{"fewer than it missed", []any{`{"joined":"bench.0","outcome":"resumed","replayed":2}`, 1, 2}, `"replayed":2`},
		{"a gap later", []any{resumedFrame, 1, `{"gap":{"group":"bench.0","reason":"slow"}}`}, `"reason":"slow"`},
		{"a bad cursor", []any{`{"error":{"code":"bad_cursor","message":"no"}}`}, "bad_cursor"},
		{"before the answer", []any{1, resumedFrame, 2, 3}, "before the answer"},
	} {
		r, c := returning()
		for _, f := range tt.frames {
			switch f := f.(type) {
			case int:
				deliver(&r.stand.fleet.sink, c, groupFrame(r.first, f))
			case string:
				deliver(&r.stand.fleet.sink, c, serverFrame(0x80|opText, []byte(f)))
			}
		}
		out, wrong := r.verdict()
		said := strings.Join(out.remarks, "")
		if (wrong == 0) != (tt.wrong == "") || !strings.Contains(said, tt.wrong) {
			t.Errorf("%s: %d are wrong: %q, want %q", tt.name, wrong, said, tt.wrong)
		}
		if r.done.Load() == 1 && out.latency.Count() != 1 {
			t.Errorf("%s: %d latencies", tt.name, out.latency.Count())
		}
	}
}

func TestWhoReturnsSaysWhereItWas(t *testing.T) {
	r, c := returning()
	if got, want := string(r.hello(c)), `{"resume":{"bench.0":"place-0"}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	r.guests[0] = guest{}
	if got, want := string(r.hello(c)), `{"resume":{}}`; got != want {
		t.Errorf("a newcomer: got %s, want %s", got, want)
	}
}

// The members of each group are spread over all nodes, and go on to the next.
func TestTargetsAreSpread(t *testing.T) {
	for _, groups := range []int{1, 2, 3, 7, 30} {
		f := &fleet{opts: fleetOptions{groups: groups, targets: []*target{{}, {}, {}}}}
		var at [30][3]int // by group and node
		for i := range 90 {
			here := f.target(i)
			for n, one := range f.opts.targets {
				if one == here {
					at[f.group(i)][n]++
				}
			}
			f.round = 1
			if f.target(i) == here {
				t.Fatalf("client %d of %d groups returns to the same node", i, groups)
			}
			f.round = 0
		}
		for g := range groups {
			least, most := min(at[g][0], at[g][1], at[g][2]), max(at[g][0], at[g][1], at[g][2])
			if most-least > 1 {
				t.Errorf("of %d groups, group %d has %v members on the nodes", groups, g, at[g])
			}
		}
	}
}
