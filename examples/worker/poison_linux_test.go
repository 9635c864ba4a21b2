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

// Messages that harm their workers in every way go to the dead letters, with what
// is known of the reason. The others do not wait for them: no poison has its last
// attempt before they are all done, although it came first. And few of them are
// done twice because they were beside one.
func TestPoison(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	log, gate := filepath.Join(s.dir, "log"), filepath.Join(s.dir, "gate")
	reasons := map[string]string{
		"panic":         "a handler panicked: poisoned",
		"exit":          "no worker was heard of",
		"memory":        "no worker was heard of",
		"hang":          "the handler took longer than WorkOptions.Timeout (context canceled)",
		"hang for good": "did not return when its context ended",
	}
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
	s.until("the healthy ones are done", func() bool { watch(); left, _ := s.left(); return left <= len(reasons) })
	for _, path := range paths {
		if !hashed(path) {
			t.Errorf("%s is not hashed", path)
		}
	}
	if _, dead := s.left(); dead > 0 {
		t.Errorf("%d are dead before their last attempt", dead)
	}
	if err := os.WriteFile(gate, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	s.until("the poison is gone", func() bool { watch(); left, dead := s.left(); return left == 0 && dead == len(reasons) })

	for d, err := range s.layer.DeadLetters(t.Context(), "mixed") {
		var p Poison
		if err == nil {
			err = d.Message.Decode(&p)
		}
		if err != nil || d.Message.Type != p.MessageType() {
			t.Fatalf("the dead letter is %+v, %v", d, err)
		}
		if d.Attempts != 3 || !strings.Contains(d.Reason, reasons[p.Kind]) {
			t.Errorf("%s: %d attempts, the reason is %q, want %q", p.Kind, d.Attempts, d.Reason, reasons[p.Kind])
		}
		delete(reasons, p.Kind)
	}
	if len(reasons) > 0 {
		t.Errorf("these are no dead letters: %v", reasons)
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
