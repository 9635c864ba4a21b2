// Package gameserver simulates a fleet of game servers that can be updated over
// HTTP: what the rollout example has to deal with. Some are slow, some fail, and
// some say nothing at all.
//
//	GET  /servers                       the servers, and what runs on them
//	POST /servers/{name}/steps/{step}   one step of an update: {"version":"2.1.0"}
//
// The steps are [Steps], in that order; doing one twice does no harm. An update
// to a version whose name ends in "-rc1" goes wrong on a few servers at first,
// and works when it is tried again later. One to a version that ends in "-broken"
// leaves every server unhealthy.
package gameserver

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Steps are what an update consists of.
var Steps = []string{"drain", "download", "verify", "install", "start", "health"}

// Regions are where the servers are. Each region has a few.
var Regions = []string{"fra", "gru", "iad", "jnb", "nrt", "sea", "sin", "syd"}

const perRegion = 5

// Server is a game server as it presents itself.
type Server struct {
	Name    string `json:"name"`
	Region  string `json:"region"`
	Version string `json:"version"`
	Players int    `json:"players"`
}

// Request asks for a step.
type Request struct {
	Version string `json:"version"`
}

// Reply says how a step went: Text in any case.
type Reply struct {
	Text string `json:"text"`
}

// Fleet is an [http.Handler] that simulates forty game servers.
type Fleet struct {
	mux  *http.ServeMux
	pace time.Duration

	mu      sync.Mutex // guards what follows
	servers []Server
	trouble map[string]int // how often a server went wrong, by name and version
}

// New returns a fleet whose servers take about pace for a step; 0 is 600 ms.
func New(pace time.Duration) *Fleet {
	if pace == 0 {
		pace = 600 * time.Millisecond
	}
	f := &Fleet{mux: http.NewServeMux(), pace: pace, trouble: map[string]int{}}
	for _, region := range Regions {
		for n := range perRegion {
			name := fmt.Sprintf("%s-%02d", region, n+1)
			f.servers = append(f.servers, Server{name, region, "2.0.4", int(hash(name) % 900)})
		}
	}
	f.mux.HandleFunc("GET /servers", f.list)
	f.mux.HandleFunc("POST /servers/{name}/steps/{step}", f.step)
	return f
}

// ServeHTTP implements [http.Handler].
func (f *Fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) { f.mux.ServeHTTP(w, r) }

func (f *Fleet) list(w http.ResponseWriter, _ *http.Request) {
	f.mu.Lock()
	all := slices.Clone(f.servers)
	f.mu.Unlock()
	reply(w, http.StatusOK, all)
}

func (f *Fleet) step(w http.ResponseWriter, r *http.Request) {
	var q Request
	name, step := r.PathValue("name"), r.PathValue("step")
	i := f.index(name)
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&q)
	switch {
	case i < 0:
		reply(w, http.StatusNotFound, Reply{"there is no server " + name})
		return
	case err != nil || q.Version == "" || !slices.Contains(Steps, step):
		reply(w, http.StatusBadRequest, Reply{"want a step of an update, and a version"})
		return
	}
	if problem := f.simulate(r.Context(), name, step, q.Version); problem != "" {
		reply(w, http.StatusServiceUnavailable, Reply{problem})
		return
	}
	reply(w, http.StatusOK, Reply{f.done(i, step, q.Version)})
}

// index returns where a server is, -1 for nowhere. It stays there.
func (f *Fleet) index(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.IndexFunc(f.servers, func(s Server) bool { return s.Name == name })
}

// simulate takes the time that the step takes, and returns what went wrong.
func (f *Fleet) simulate(ctx context.Context, name, step, version string) (problem string) {
	took := f.pace/2 + rand.N(f.pace)
	if strings.HasSuffix(name, "-04") {
		took *= 2 // an old machine
	}
	if !pause(ctx, took) {
		return "the client has gone"
	}
	switch {
	case strings.HasSuffix(version, "-broken") && step == "health":
		return "unhealthy: exit status 139 after 2 s"
	case name == "gru-03" && step == "start" && f.happens(name, version, 1):
		return "port 27015 is still in use"
	case !strings.HasSuffix(version, "-rc1"):
		return ""
	case (name == "jnb-02" || name == "sin-05") && step == "verify" && f.happens(name, version, 2):
		return "checksum mismatch: the mirror has an old file"
	case name == "syd-01" && step == "install" && f.happens(name, version, 2):
		return "no space left on device"
	case name == "sea-03" && step == "download" && f.happens(name, version, 2):
		<-ctx.Done() // it hangs
		return "the client has gone"
	}
	return ""
}

// happens reports whether something still goes wrong, as it does often times.
func (f *Fleet) happens(name, version string, often int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := name + " " + version
	f.trouble[key]++
	return f.trouble[key] <= often
}

// done notes what a step has changed, and says so.
func (f *Fleet) done(i int, step, version string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &f.servers[i]
	size := 300 + hash(version)%200
	switch step {
	case "drain":
		n := s.Players
		s.Players = 0
		return fmt.Sprintf("%d players moved", n)
	case "download":
		return fmt.Sprintf("%d MB from mirror %s", size, s.Region)
	case "verify":
		return fmt.Sprintf("signature of %s", version)
	case "install":
		before := s.Version
		s.Version = version
		return version + " replaces " + before
	case "start":
		return fmt.Sprintf("pid %d, port 27015", 2000+rand.N(30000))
	}
	s.Players = rand.N(40)
	return fmt.Sprintf("answers in %d ms", 2+rand.N(30))
}

func hash(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // fails when the client has gone
}
