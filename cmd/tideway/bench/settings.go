package bench

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Settings say what is measured. Lists are axes: one of them may have several
// values.
type Settings struct {
	URL      string   // of the server; "" starts one
	PIDs     []int    // further processes whose CPU time and memory count as the server's
	Header   []string // lines of each handshake
	Hello    string   // a text message behind each handshake; %d is the group's number
	Replies  int      // messages that answer Hello
	Message  string   // what a publishing client sends; %s is the mark and the padding
	Deflate  bool     // offer permessage-deflate
	Stranger bool     // the server may be on another machine

	NATS   string // server for the bench's own server; "" embeds one
	Prefix string // of its subjects

	Clients, Groups, Rate, Size, Members, Nodes, Slow, Missed []int

	Duration  time.Duration // of each run
	Runs      int
	Publisher string // Inside, Outside or Client; "" is Inside, or Client with a URL
	Handled   bool   // messages pass through a handler for each connection
	Floor     bool   // measure the floor, too
	Durable   bool   // layer: groups whose messages are stored
	Peers     []Peer // measure these, too
	KeepGoing bool   // a peer that fails is left out of that run
	Staying   int    // storm: clients that stay
	Admission int    // handshakes a second that the bench's own server begins; 0 is the router's default, negative no limit
	Window    int    // messages under way when there is no rate
	Workers   int    // queue: readers; echo and connect: handshakes at the same time
	Nap       time.Duration
	Profile   string // write the own server's profiles to that path with .cpu and .allocs behind it; "" is none

	Stderr   io.Writer  // for what a child says
	Progress func(Step) // called as the benchmark goes on; may be nil

	onFloor bool  // the bench's own server is a floor
	peer    *Peer // the bench's server is this one
}

// Who publishes.
const (
	Inside  = "inside"  // the server itself
	Outside = "outside" // another process, through NATS
	Client  = "client"  // a WebSocket client
)

// Step is how far a benchmark is.
type Step struct {
	Done, All int    // runs
	Doing     string // the point that is being measured
}

// The bounds of settings. They are far beyond what one machine does, and keep a
// slip of the finger from taking it down.
const (
	maxClients  = 1 << 20
	maxRate     = 10_000_000
	minSize     = 64
	maxSize     = 1 << 20
	maxNodes    = 16
	maxMissed   = 10_000 // of one client; a server replays no more by default
	maxRuns     = 100
	minDuration = 50 * time.Millisecond
	maxDuration = 10 * time.Minute
)

// SettingsError says which flag makes no sense.
type SettingsError struct{ text string }

func (e *SettingsError) Error() string { return e.text }

func settingsErrorf(format string, a ...any) error { return &SettingsError{fmt.Sprintf(format, a...)} }

// axis is a size with its flag's name and its bounds.
type axis struct {
	name     string
	values   []int
	min, max int
}

func (s *Settings) axes() []axis {
	return []axis{
		{"clients", s.Clients, 1, maxClients},
		{"groups", s.Groups, 1, maxClients},
		{"rate", s.Rate, 0, maxRate},
		{"size", s.Size, minSize, maxSize},
		{"members", s.Members, 1, maxClients},
		{"nodes", s.Nodes, 1, maxNodes},
		{"slow", s.Slow, 0, maxClients},
		{"missed", s.Missed, 1, maxMissed},
	}
}

// check finds settings that make no sense.
func (s *Settings) check() error {
	var several []string
	for _, a := range s.axes() {
		if len(a.values) > 1 {
			several = append(several, "--"+a.name)
		}
		for _, v := range a.values {
			if v < a.min || v > a.max {
				return settingsErrorf("--%s is %d; it is from %d to %d", a.name, v, a.min, a.max)
			}
		}
	}
	if len(several) > 1 {
		return settingsErrorf("%s have several values; sweep one at a time", strings.Join(several, " and "))
	}
	return errors.Join(s.checkRuns(), s.checkTarget())
}

func (s *Settings) checkRuns() error {
	switch {
	case s.Runs < 1 || s.Runs > maxRuns:
		return settingsErrorf("--runs is %d; it is from 1 to %d", s.Runs, maxRuns)
	case s.Duration < minDuration || s.Duration > maxDuration:
		return settingsErrorf("--duration is %v; it is from %v to %v", s.Duration, minDuration, maxDuration)
	case s.Nap < 0 || s.Nap > 100*time.Millisecond:
		return settingsErrorf("--nap is %v; it is at most 100ms", s.Nap)
	case s.Window < 1 || s.Workers < 1 || s.Workers > 4096:
		return settingsErrorf("--window, --workers and --dialers are at least 1")
	}
	for _, n := range s.Clients {
		for _, slow := range s.Slow {
			if slow >= max(n, 1) {
				return settingsErrorf("--slow is %d of %d clients; some have to read", slow, n)
			}
		}
	}
	return nil
}

func (s *Settings) checkTarget() error {
	switch {
	case !slices.Contains([]string{"", Inside, Outside, Client}, s.Publisher):
		return settingsErrorf("--publisher is %q; it is %s, %s or %s", s.Publisher, Inside, Outside, Client)
	case s.URL != "" && s.Publisher == Inside:
		return settingsErrorf("--publisher inside is for the bench's own server; with --url it is client, or outside with --nats")
	case s.URL != "" && s.Publisher == Outside && s.NATS == "":
		return settingsErrorf("--publisher outside publishes through NATS: name the server's with --nats")
	case s.URL == "" && (s.Hello != "" || len(s.Header) > 0):
		return settingsErrorf("--header and --hello are for the server of --url")
	case s.URL != "" && slices.ContainsFunc(s.Nodes, func(n int) bool { return n > 1 }):
		return settingsErrorf("--nodes is for the bench's own servers; leave out --url")
	case s.URL != "" && len(s.Peers) > 0:
		return settingsErrorf("--peer is measured beside the bench's own server; leave out --url")
	case s.Message != "" && strings.Count(s.Message, "%s") != 1:
		return settingsErrorf("--message %q: it holds %%s once, where the mark goes", s.Message)
	}
	return nil
}

// publisher returns who publishes.
func (s *Settings) publisher() string {
	switch {
	case s.Publisher != "":
		return s.Publisher
	case s.URL != "":
		return Client
	}
	return Inside
}

// Point is one combination of sizes.
type Point struct {
	Clients int `json:"clients,omitempty"`
	Groups  int `json:"groups,omitempty"`
	Rate    int `json:"rate,omitempty"`
	Size    int `json:"size,omitempty"`
	Members int `json:"members,omitempty"`
	Nodes   int `json:"nodes,omitempty"`
	Slow    int `json:"slow,omitempty"`
	Missed  int `json:"missed,omitempty"`
}

// points returns what is to be measured, and the name of the axis that has
// several values, or "".
func (s *Settings) points() (all []Point, swept string) {
	first := func(v []int) int {
		if len(v) == 0 {
			return 0
		}
		return v[0]
	}
	base := Point{first(s.Clients), first(s.Groups), first(s.Rate), first(s.Size), first(s.Members), first(s.Nodes), first(s.Slow), first(s.Missed)}
	for _, a := range s.axes() {
		if len(a.values) < 2 {
			continue
		}
		for _, v := range a.values {
			p := base
			*p.at(a.name) = v
			all = append(all, p)
		}
		return all, a.name
	}
	return []Point{base}, ""
}

// at returns the size of that name.
func (p *Point) at(axis string) *int {
	return map[string]*int{
		"clients": &p.Clients, "groups": &p.Groups, "rate": &p.Rate,
		"size": &p.Size, "members": &p.Members, "nodes": &p.Nodes,
		"slow": &p.Slow, "missed": &p.Missed,
	}[axis]
}
