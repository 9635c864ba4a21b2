package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
)

const patience = 2 * time.Minute

// site is a NATS server, and this process's place in its network.
type site struct {
	*testing.T
	url   string
	layer *layer.Layer
	dir   string
}

func newSite(t *testing.T) *site {
	t.Helper()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	bus, err := natsbus.New(t.Context(), &natsbus.Options{Embedded: &natsbus.Embedded{Listen: "127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close(context.Background()) })
	l, err := layer.New(bus, &layer.Options{Queues: queues})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(context.Background()) })
	return &site{t, bus.ClientURL(), l, t.TempDir()}
}

// files writes files to be hashed.
func (s *site) files(n int) (paths []string) {
	s.Helper()
	for i := range n {
		path := filepath.Join(s.dir, fmt.Sprintf("file%03d", i))
		if err := os.WriteFile(path, fmt.Append(nil, "contents ", i), 0o666); err != nil {
			s.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// start runs a worker in a process of its own, and returns when it works.
func (s *site) start(settings ...string) *exec.Cmd {
	s.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), urlVariable+"="+s.url), settings...)
	if len(settings) == 0 { // the others die as they shall, and say so at length
		cmd.Stderr = os.Stderr
	}
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
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "working\n" {
		s.Fatalf("the worker said %q, %v", line, err)
	}
	return cmd
}

// until waits for a condition.
func (s *site) until(what string, ok func() bool) {
	s.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			all, err := s.layer.Queues(context.Background())
			s.Fatalf("%v passed, and not yet %s; the queues are %+v, %v", patience, what, all, err)
		}
	}
}

func hashed(path string) bool {
	text, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	sum := sha256.Sum256(text)
	got, err := os.ReadFile(path + ".sha256")
	return err == nil && strings.TrimSpace(string(got)) == hex.EncodeToString(sum[:])
}

// left returns how many messages are not done, and how many are dead.
func (s *site) left() (left, dead int) {
	all, err := s.layer.Queues(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	for _, q := range all {
		left, dead = left+q.Ready+q.Working, dead+q.Dead
	}
	return left, dead
}

func TestSubmitAndWork(t *testing.T) {
	s := newSite(t)
	paths := s.files(3)
	for range 2 { // the second time they are known
		if err := submit(t.Context(), s.url, paths); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := s.left(); left != 3 {
		t.Errorf("%d messages wait, want 3", left)
	}
	if err := s.layer.Send(t.Context(), "files", Hash{filepath.Join(s.dir, "missing")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- work(ctx, s.url, Hasher) }()
	s.until("all is done", func() bool { left, dead := s.left(); return left == 0 && dead == 1 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, path := range paths {
		if !hashed(path) {
			t.Errorf("%s is not hashed", path)
		}
	}
	for d, err := range s.layer.DeadLetters(t.Context(), "files") {
		if err != nil || !strings.Contains(d.Reason, "no such file") || d.Attempts != 1 {
			t.Errorf("the dead letter is %+v, %v", d, err)
		}
	}
}

// Workers that are killed at any moment lose nothing, and a message that kills
// them goes to the dead letters while the others are done: it takes none of them
// along more than twice, so that they outlive the other kills, too.
func TestKilledWorkers(t *testing.T) {
	const maxKills = 4
	t.Parallel()
	s := newSite(t)
	paths := s.files(200)
	for i, path := range paths {
		if i == 20 {
			if err := s.layer.Send(t.Context(), "files", Poison{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.layer.Send(t.Context(), "files", Slow{Path: path}); err != nil {
			t.Fatal(err)
		}
	}
	// Two workers, one of which is killed again and again; who ends is replaced.
	ended := make(chan struct{}, 1)
	watched := func() *exec.Cmd {
		cmd := s.start()
		go func() {
			cmd.Process.Wait()
			ended <- struct{}{}
		}()
		return cmd
	}
	workers := []*exec.Cmd{watched(), watched()}
	kills := 0
	s.until("all are done", func() bool {
		select {
		case <-ended:
			for i, w := range workers {
				if w.Process.Signal(syscall.Signal(0)) != nil {
					workers[i] = watched()
				}
			}
		default:
			if kills < maxKills && rand.N(5) == 0 {
				kills++
				workers[rand.N(2)].Process.Kill()
			}
		}
		left, dead := s.left()
		return left == 0 && dead >= 1
	})
	for _, path := range paths {
		if !hashed(path) {
			t.Errorf("%s is not hashed", path)
		}
	}
	for d, err := range s.layer.DeadLetters(t.Context(), "files") {
		if err != nil || d.Message.Type != "files.poison" || d.Attempts != queues[0].Attempts {
			t.Errorf("the dead letter is %s, %d attempts, %s; %v", d.Message.Data, d.Attempts, d.Reason, err)
		}
	}
	t.Logf("%d workers were killed", kills)
}

// A worker that is asked to stop hands back what it has not begun, and ends
// without an error.
func TestTerminatedWorker(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	paths := s.files(100)
	for _, path := range paths {
		if err := s.layer.Send(t.Context(), "files", Slow{Path: path}); err != nil {
			t.Fatal(err)
		}
	}
	first := s.start()
	s.until("it is at work", func() bool { left, _ := s.left(); return left < 95 })
	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := first.Wait(); err != nil {
		t.Errorf("the worker ended with %v", err)
	}
	if left, _ := s.left(); left == 0 {
		t.Fatal("nothing is left for the next one")
	}
	d, err := s.layer.Take(t.Context(), "files")
	if err != nil || d.Attempt != 1 {
		t.Fatalf("the next message is attempt %d, %v", d.Attempt, err)
	}
	if err := d.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.until("all are done", func() bool { left, _ := s.left(); return left == 0 })
	for _, path := range paths {
		if !hashed(path) {
			t.Errorf("%s is not hashed", path)
		}
	}
}
