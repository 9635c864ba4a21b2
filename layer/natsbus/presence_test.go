package natsbus_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/natsbus"
)

// With -full the test takes the defaults and 500 users, and some minutes.
var full = flag.Bool("full", false, "kill a process among 500 present users, with the default lease")

// settlers are the settings of a process that the test starts, and may kill.
type settlers struct {
	URL          string
	Lease, Grace time.Duration
}

const settlersVar = "TIDEWAY_TEST_SETTLERS"

// order is what the test has a process do, and answer.
type order struct {
	Do    string // "enter", "leave", "members"
	Users []string
}

// settle is such a process: it carries out the orders that come on stdin.
func settle(setting string) error {
	var s settlers
	if err := json.Unmarshal([]byte(setting), &s); err != nil {
		return err
	}
	ctx := context.Background()
	bus, err := natsbus.New(ctx, &natsbus.Options{URL: s.URL, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	l, err := layer.New(bus, &layer.Options{
		Presence: []layer.Presence{{Pattern: "room.>", Lease: s.Lease, Grace: s.Grace}},
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	channels := map[string]*layer.Channel{}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return err // the test has ended
		}
		answer := map[string]int{}
		for _, user := range o.Users {
			if o.Do == "leave" {
				channels[user].Close()
				delete(channels, user)
				continue
			}
			c, err := l.NewChannel(ctx)
			if err == nil {
				err = c.Identify(user)
			}
			if err == nil {
				err = l.GroupAdd(ctx, "room.1", c.Name())
			}
			if err != nil {
				return err
			}
			channels[user] = c
		}
		if o.Do == "members" {
			members, err := l.Members(ctx, "room.1", nil)
			if err != nil {
				return err
			}
			for _, m := range members {
				answer[m.User] = m.Connections
			}
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
}

// settlement is one of these processes, as the test sees it.
type settlement struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func newSettlement(t *testing.T, s settlers) *settlement {
	t.Helper()
	setting, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &settlement{t: t, cmd: exec.Command(exe)}
	p.cmd.Env = append(os.Environ(), settlersVar+"="+string(setting))
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	return p
}

// kill is kill -9.
func (p *settlement) kill() {
	_ = p.cmd.Process.Kill() // it may have been killed
	_ = p.cmd.Wait()
}

func (p *settlement) do(what string, users ...string) map[string]int {
	p.t.Helper()
	data, err := json.Marshal(order{what, users})
	if err == nil {
		_, err = p.in.Write(append(data, '\n'))
	}
	var line []byte
	if err == nil {
		line, err = p.out.ReadBytes('\n')
	}
	answer := map[string]int{}
	if err == nil {
		err = json.Unmarshal(line, &answer)
	}
	if err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
	return answer
}

// await returns how long it took until p knows exactly these members.
func (p *settlement) await(want map[string]int, limit time.Duration) time.Duration {
	p.t.Helper()
	began, wrong := time.Now(), ""
	for time.Since(began) < limit {
		if wrong = differ(p.do("members"), want); wrong == "" {
			return time.Since(began)
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.t.Fatalf("after %v %s", limit, wrong)
	return 0
}

// stays checks that nothing changes for a while.
func (p *settlement) stays(want map[string]int) {
	p.t.Helper()
	for began := time.Now(); time.Since(began) < time.Second; time.Sleep(100 * time.Millisecond) {
		if wrong := differ(p.do("members"), want); wrong != "" {
			p.t.Fatal(wrong)
		}
	}
}

// differ says how two rosters differ, in a few words.
func differ(got, want map[string]int) string {
	ghosts, missing, wrong := 0, 0, 0
	for user, n := range got {
		switch {
		case want[user] == 0:
			ghosts++
		case want[user] != n:
			wrong++
		}
	}
	for user := range want {
		if got[user] == 0 {
			missing++
		}
	}
	if ghosts+missing+wrong == 0 {
		return ""
	}
	return fmt.Sprintf("there are %d ghosts, %d are missing, and %d have another number of connections", ghosts, missing, wrong)
}

// Users with two tabs each, in two of three processes, one of which is killed. A
// third of its users come back elsewhere.
func TestPresenceUnderKill(t *testing.T) {
	t.Parallel()
	users, s := 60, settlers{Lease: 10 * time.Second, Grace: 500 * time.Millisecond}
	visible, gone := 20*time.Second, 45*time.Second // a loaded machine is not the promise
	if *full {
		users, s, visible, gone = 500, settlers{}, 2*time.Second, 35*time.Second
	}
	hub, err := natsbus.New(t.Context(), &natsbus.Options{Embedded: &natsbus.Embedded{Listen: "127.0.0.1:0"}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := hub.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	s.URL = hub.ClientURL()
	all := []*settlement{newSettlement(t, s), newSettlement(t, s), newSettlement(t, s)}
	homes := [3][]string{}
	want := map[string]int{}
	for i := range users {
		user := fmt.Sprintf("user%03d", i)
		for tab := range 2 {
			home := (i + tab) % 3
			homes[home] = append(homes[home], user)
		}
		want[user] = 2
	}
	for i, p := range all {
		p.do("enter", homes[i]...)
	}
	for i, p := range all {
		t.Logf("process %d knows all after %v", i, p.await(want, visible))
	}
	all[1].stays(want) // and by now they know, and need not ask
	all[2].stays(want)

	all[0].kill()
	var moved []string
	for i, user := range homes[0] {
		if want[user]--; i%3 == 0 {
			moved = append(moved, user)
			want[user]++
		}
	}
	all[1].do("enter", moved...)
	killed := time.Now()
	for i, p := range all[1:] {
		p.await(want, gone)
		p.stays(want)
		t.Logf("process %d has no ghost and misses nobody %v after the kill", i+1, time.Since(killed))
	}

	all[2].do("leave", homes[2]...)
	for _, user := range homes[2] {
		if want[user]--; want[user] == 0 {
			delete(want, user)
		}
	}
	t.Logf("those who left were seen to do so after %v", all[1].await(want, visible+10*time.Second))
	last := newSettlement(t, s)
	last.do("enter", "newcomer")
	want["newcomer"] = 1
	t.Logf("a new process knows all after %v", last.await(want, visible))
	t.Logf("and is known after %v", all[1].await(want, visible))
}
