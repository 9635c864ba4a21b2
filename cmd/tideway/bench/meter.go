package bench

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"time"
)

// meter reads the CPU clocks of the server's processes, of our own, and of the
// machine.
type meter struct {
	server, own []int // processes
	fleet       *fleet
	at          time.Time
	cpu         [2]time.Duration
	reader      time.Duration
	busy        time.Duration
	profiled    func() error // ends the server's profile; nil without one
}

// startMeter begins to measure. own are the bench's processes beside this one;
// a server that is this very process is counted once.
func startMeter(server, own []int, f *fleet) (*meter, error) {
	if !slices.Contains(server, os.Getpid()) {
		own = append([]int{os.Getpid()}, own...)
	}
	m := &meter{server: server, own: own, fleet: f, at: time.Now()}
	return m, m.read(&m.cpu, &m.reader, &m.busy)
}

func (m *meter) read(cpu *[2]time.Duration, reader, busy *time.Duration) (err error) {
	for i, pids := range [][]int{m.server, m.own} {
		for _, pid := range pids {
			d, err := processTime(pid)
			if err != nil {
				return err
			}
			cpu[i] += d
		}
	}
	if m.fleet != nil {
		*reader = m.fleet.poller.busy()
	}
	*busy, err = machineBusy()
	return err
}

// usage is what a stretch of time cost.
type usage struct {
	elapsed time.Duration
	server  time.Duration // CPU time of the server's processes
	client  time.Duration // of the bench's own
	reader  float64       // share of the time for which the load client's thread was busy
	other   float64       // cores that anything else kept busy
	cores   float64       // cores that anything kept busy
}

func (m *meter) stop() (usage, error) {
	var cpu [2]time.Duration
	var reader, busy time.Duration
	if err := m.read(&cpu, &reader, &busy); err != nil {
		return usage{}, err
	}
	if m.profiled != nil {
		if err := m.profiled(); err != nil {
			return usage{}, fmt.Errorf("its profile: %w", err)
		}
	}
	u := usage{elapsed: time.Since(m.at), server: cpu[0] - m.cpu[0], client: cpu[1] - m.cpu[1]}
	span := float64(max(u.elapsed, 1))
	u.reader = float64(reader-m.reader) / span
	u.cores = float64(busy-m.busy) / span
	u.other = max(float64(busy-m.busy-u.server-u.client)/span, 0)
	return u, nil
}

const (
	busyReader   = 0.85 // from here on the load client's thread was the bottleneck
	noisyMachine = 0.3  // cores that others may keep busy
	fullMachine  = 0.97 // of all cores
)

// remarks says what makes the figures of u doubtful.
func (u usage) remarks() []string {
	var r []string
	if u.reader > busyReader {
		r = append(r, noteReader)
	}
	if u.other > noisyMachine {
		r = append(r, noteNoise)
	}
	if u.cores > fullMachine*float64(runtime.NumCPU()) {
		r = append(r, noteFull)
	}
	return r
}

const (
	noteReader = "the load client was the bottleneck: its thread was busy for more than 85 % of the time, so latencies are too high and rates too low; spread fewer messages, or use a machine with faster cores"
	noteNoise  = "other programs kept more than 0.3 cores busy: distrust the latencies, and compare CPU times with care"
	noteFull   = "no core was idle: latencies include the wait for one"
)
