package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func init() { confine = confineMemory }

// confineMemory leaves this process half a gigabyte beyond what it has: the one
// that asks for more ends by itself, and the machine does not notice.
func confineMemory() error {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	var pages uint64
	if _, err := fmt.Sscan(string(text), &pages); err != nil {
		return err
	}
	most := pages*uint64(os.Getpagesize()) + 512<<20
	return syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: most, Max: most})
}

// What is known of why a message is dead that does this to its worker.
const died = "no worker was heard of"

var reasons = map[string]string{
	"panic":         "a handler panicked: poisoned",
	"exit":          died,
	"memory":        died,
	"hang":          "the handler took longer than WorkOptions.Timeout (context canceled)",
	"hang for good": "did not return when its context ended",
}

// Messages that harm their workers in every way go to the dead letters, with what
// is known of the reason. The others do not wait for them: they are done while
// poison is still there, although it came first, and has no last attempt before,
// unless that goes down with a neighbour. And few of them are done twice because
// they were beside one.
func TestPoison(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	log, gate := filepath.Join(s.dir, "log"), filepath.Join(s.dir, "gate")
	for kind := range reasons {
		if err := s.layer.Send(t.Context(), "mixed", Poison{kind, log, gate}); err != nil {
			t.Fatal(err)
		}
	}
	paths := s.files(300)
	for _, path := range paths {
		if err := s.layer.Send(t.Context(), "mixed", Slow{path, log}); err != nil {
			t.Fatal(err)
		}
	}
	watch := s.keep(3, limitVariable+"=1s")
	s.until("the healthy ones are done", func() bool { watch(); left, dead := s.left(); return left+dead <= len(reasons) })
	for _, path := range paths {
		if !hashed(path) {
			t.Errorf("%s is not hashed", path)
		}
	}
	if left, _ := s.left(); left == 0 {
		t.Error("the poison was gone first, so nothing is shown")
	}
	if err := os.WriteFile(gate, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	s.until("the poison is gone", func() bool { watch(); left, dead := s.left(); return left == 0 && dead == len(reasons) })

	for kind, reason := range s.deadOfPoison() {
		// A neighbour may have ended the process of the last attempt.
		if !strings.Contains(reason, reasons[kind]) && !strings.Contains(reason, died) {
			t.Errorf("%s: the reason is %q, want %q", kind, reason, reasons[kind])
		}
	}
	runs := map[string]int{}
	for _, line := range lines(log) {
		what, _, _ := strings.Cut(line, "_")
		runs[what]++
	}
	t.Logf("%d messages were handled in %d runs, the poison in %d", len(paths), runs["slow"], runs["poison"])
	if again := runs["slow"] - len(paths); again > len(paths)/10 {
		t.Errorf("%d runs more than the %d healthy messages need", again, len(paths))
	}
}

// Poison that ends no process is dead for a reason of its own.
func TestPoisonThatIsTame(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	want := 0
	for kind, reason := range reasons {
		if reason == died {
			continue
		}
		want++
		if err := s.layer.Send(t.Context(), "mixed", Poison{Kind: kind}); err != nil {
			t.Fatal(err)
		}
	}
	s.keep(1, limitVariable+"=1s")
	s.until("the poison is gone", func() bool { left, dead := s.left(); return left == 0 && dead == want })
	for kind, reason := range s.deadOfPoison() {
		if !strings.Contains(reason, reasons[kind]) {
			t.Errorf("%s: the reason is %q, want %q", kind, reason, reasons[kind])
		}
	}
}

// deadOfPoison returns why each kind of poison is dead, after three attempts.
func (s *site) deadOfPoison() map[string]string {
	s.Helper()
	all := map[string]string{}
	for d, err := range s.layer.DeadLetters(s.Context(), "mixed") {
		var p Poison
		if err == nil {
			err = d.Message.Decode(&p)
		}
		if err != nil || d.Message.Type != p.MessageType() || d.Attempts != 3 {
			s.Fatalf("the dead letter is %+v, %v", d, err)
		}
		all[p.Kind] = d.Reason
	}
	return all
}

// keep starts workers; the function that it returns replaces those that ended.
func (s *site) keep(n int, settings ...string) (watch func()) {
	ended := make(chan struct{}, 100)
	begin := func() {
		cmd := s.start(settings...)
		go func() {
			cmd.Process.Wait()
			ended <- struct{}{}
		}()
	}
	for range n {
		begin()
	}
	return func() {
		select {
		case <-ended:
			begin()
		default:
		}
	}
}
