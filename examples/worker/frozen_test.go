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
// handlers succeeded or failed, and each is handled once more and not twice.
func TestFrozenWorker(t *testing.T) {
	s := newSite(t)
	frozen := s.listen()
	held := []Held{{Log: filepath.Join(s.dir, "ack")}, {Log: filepath.Join(s.dir, "retry"), Fail: true}}
	for i := range held {
		held[i].Gate = held[i].Log + ".gate"
		if err := s.layer.Send(t.Context(), "files", held[i]); err != nil {
			t.Fatal(err)
		}
	}
	runs := func(n int) func() bool {
		return func() bool { return len(lines(held[0].Log)) == n && len(lines(held[1].Log)) == n }
	}
	open := func(attempt int) {
		for _, h := range held {
			if err := os.WriteFile(fmt.Sprint(h.Gate, attempt), nil, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.until("the first one is at work", runs(1))
	frozen.signal(t, syscall.SIGSTOP)
	other := s.listen()
	s.until("the other one is at work", runs(2))

	open(1)
	frozen.signal(t, syscall.SIGCONT)
	if got := frozen.stop(t); got != "done 0, returned 0, lost 2" {
		t.Errorf("the one that was frozen says %q", got)
	}
	if left, dead := s.left(); left != 2 || dead != 0 {
		t.Errorf("the other one is at work, and %d are left, %d dead", left, dead)
	}
	open(2)
	s.until("all is done", func() bool { left, _ := s.left(); return left == 0 })
	if got := other.stop(t); got != "done 2, returned 0, lost 0" {
		t.Errorf("the other one says %q", got)
	}
	want := []string{fmt.Sprintf("pid_%d,_attempt_1", frozen.Process.Pid), fmt.Sprintf("pid_%d,_attempt_2", other.Process.Pid)}
	for _, h := range held {
		if got := lines(h.Log); !slices.Equal(got, want) {
			t.Errorf("it was handled by %v, want %v", got, want)
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
