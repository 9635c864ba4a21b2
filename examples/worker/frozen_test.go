//go:build unix

package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// lines returns what is noted in a file.
func lines(path string) []string {
	text, _ := os.ReadFile(path) // it may not be there yet
	return strings.Fields(strings.NewReplacer(" ", "_", "\n", " ").Replace(string(text)))
}

// A worker that is frozen for longer than its lease, and wakes while another has
// its messages, changes nothing: what it says of them is refused, whether its
// handlers succeeded or failed, and each is handled once more and not twice. What
// came for it while it slept, it does not begin.
func TestFrozenWorker(t *testing.T) {
	s := newSite(t)
	frozen := s.listen()
	gate := filepath.Join(s.dir, "gate")
	log := func(name string) string { return filepath.Join(s.dir, name) }
	send := func(all ...Held) {
		for _, h := range all {
			if err := s.layer.Send(t.Context(), "held", h); err != nil {
				t.Fatal(err)
			}
		}
	}
	open := func(gate string, w *worker) {
		if err := os.WriteFile(fmt.Sprint(gate, w.Process.Pid), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	runs := func(n int, names ...string) func() bool {
		return func() bool {
			return !slices.ContainsFunc(names, func(name string) bool { return len(lines(log(name))) < n })
		}
	}
	open(log("warm"), frozen)
	send(Held{Log: log("warm"), Gate: log("warm")}) // then the worker asks for as many as it has places
	s.until("the first one is ready", func() bool { left, _ := s.left(); return left == 0 })
	send(Held{Log: log("ack"), Gate: gate}, Held{Log: log("retry"), Gate: gate, Fail: frozen.Process.Pid})
	s.until("the first one is at work", runs(1, "ack", "retry"))
	frozen.freeze(t)
	send(Held{Log: log("late"), Gate: gate}, Held{Log: log("later"), Gate: gate})
	other := s.listen()
	s.until("the other one is at work", runs(2, "ack", "retry"))
	s.until("it has what the first one missed, too", runs(1, "late", "later"))

	open(gate, frozen)
	frozen.signal(t, syscall.SIGCONT)
	send(Held{Log: log("fresh"), Gate: gate}) // all places of the other one are taken
	s.until("the first one is awake", runs(1, "fresh"))
	if got := frozen.stop(t); got != "done 2, returned 0, lost 2" {
		t.Errorf("the one that was frozen says %q", got)
	}
	s.until("four are left, at which the other one works", func() bool { left, dead := s.left(); return left == 4 && dead == 0 })
	open(gate, other)
	s.until("all is done", func() bool { left, _ := s.left(); return left == 0 })
	if got := other.stop(t); got != "done 4, returned 0, lost 0" {
		t.Errorf("the other one says %q", got)
	}
	first, second := fmt.Sprint(frozen.Process.Pid), fmt.Sprint(other.Process.Pid)
	for name, want := range map[string][]string{"ack": {first, second}, "retry": {first, second}, "late": {second}, "later": {second}, "fresh": {first}} {
		if got := lines(log(name)); !slices.Equal(got, want) {
			t.Errorf("%q was handled by %v, want %v", name, got, want)
		}
	}
	if _, dead := s.left(); dead != 0 {
		t.Errorf("%d are dead", dead)
	}
}

// worker is a worker whose last words are read.
type worker struct {
	*exec.Cmd
	out *bufio.Reader
}

// listen starts one.
func (s *site) listen() *worker {
	s.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), urlVariable+"="+s.url)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		cmd.Process.Kill() // if it has not ended
		cmd.Wait()
	})
	w := &worker{cmd, bufio.NewReader(out)}
	if line, err := w.out.ReadString('\n'); line != "working\n" {
		s.Fatalf("the worker said %q, %v", line, err)
	}
	return w
}

func (w *worker) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := w.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// freeze stops the worker's process, and waits until none of its threads runs any
// more, which the signal alone does not.
func (w *worker) freeze(t *testing.T) {
	t.Helper()
	w.signal(t, syscall.SIGSTOP)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(w.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("the worker is %#x, %v; it should stand still", status, err)
	}
}

// stop ends the worker and returns its last words.
func (w *worker) stop(t *testing.T) string {
	t.Helper()
	w.signal(t, syscall.SIGTERM)
	text, err := io.ReadAll(w.out)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}
