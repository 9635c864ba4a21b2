package bench

import (
	"context"
	"errors"
	"os"
	"runtime/pprof"
	"time"
)

// profile is what a process does, being written to files for `go tool pprof`.
type profile struct {
	path string
	cpu  *os.File
}

// startProfile begins to write path.cpu. Of several runs the last one stays.
func startProfile(path string) (*profile, error) {
	f, err := os.Create(path + ".cpu")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &profile{path, f}, nil
}

// stop ends path.cpu, and writes path.allocs, which holds what was allocated
// since the process began.
func (p *profile) stop() error {
	pprof.StopCPUProfile()
	f, err := os.Create(p.path + ".allocs")
	if err == nil {
		err = errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
	}
	return errors.Join(err, p.cpu.Close())
}

// profiled has the bench's own server, of several the first, write a profile until
// end is called, if the settings say so; else end is nil.
func (st *stand) profiled() (end func() error) {
	path := st.settings.Profile
	if path == "" || len(st.servers) == 0 || st.settings.peer != nil || st.settings.onFloor {
		return nil
	}
	server := st.servers[0]
	_, failed := server.ask(order{Profile: &path})
	return func() error {
		_, err := server.ask(order{Profile: new(string)})
		return errors.Join(failed, err)
	}
}

// profiled is work that is done under a profile the first time, if the settings
// say so.
func (s *Settings) profiled(work func(context.Context, time.Duration) error) func(context.Context, time.Duration) error {
	path := s.Profile
	return func(ctx context.Context, d time.Duration) error {
		if path == "" {
			return work(ctx, d)
		}
		p, err := startProfile(path)
		if err != nil {
			return err
		}
		path = ""
		return errors.Join(work(ctx, d), p.stop())
	}
}

// profile carries out an order: to begin to write to path, or with "" to end.
func (a *agent) profile(path string) (err error) {
	switch {
	case path != "" && a.profiling == nil:
		a.profiling, err = startProfile(path)
	case path == "" && a.profiling != nil:
		err = a.profiling.stop()
		a.profiling = nil
	}
	return err
}
