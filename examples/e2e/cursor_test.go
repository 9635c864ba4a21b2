package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/tideway-go/tideway/consumer"
	"github.com/tideway-go/tideway/consumer/client"
	"github.com/tideway-go/tideway/examples/internal/freeport"
	"github.com/tideway-go/tideway/layer"
	"github.com/tideway-go/tideway/layer/membus"
)

// outcome is what a client is told that comes to the inbox of ann with a cursor:
// of its join, and before that of the cursor, if there is something to say.
func outcome(t *testing.T, s *inboxSite, header http.Header, cursor string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, "http://"+s.addr+"/inbox/ws/", &client.Options{
		Header: header, Resume: client.Resume{Cursors: map[string]string{"notify.ann": cursor}},
	})
	if err != nil {
		t.Fatalf("%.20s…: %v", cursor, err)
	}
	defer c.Close(consumer.StatusNormalClosure, "")
	var told []string
	for {
		e, err := c.Receive(ctx)
		switch {
		case err != nil:
			t.Fatalf("%.20s…: %v", cursor, err)
		case e.Err != nil:
			told = append(told, e.Err.Code)
		case e.Joined != nil && e.Joined.Outcome == "resumed":
			return strings.Join(append(told, fmt.Sprint("resumed ", e.Joined.Replayed)), ", ")
		case e.Joined != nil:
			return strings.Join(append(told, strings.TrimSpace(e.Joined.Outcome+" "+e.Joined.Reason)), ", ")
		}
	}
}

// A client that brings a position is told right what becomes of it: genuine ones,
// those that were tampered with at any place, of another group, of another
// network, of what is no longer kept, and of a stream that was made anew.
func TestCursorsAgainstProcesses(t *testing.T) {
	broker := freeport.Addr(t)
	startNATS(t, broker, t.TempDir())
	sites := []*inboxSite{startInbox(t, broker), startInbox(t, broker)}
	l := networkOf(t, broker)
	header := logIn(t, "http://"+sites[0].addr, "ann")
	asked, right := 0, 0
	expect := func(what, cursor, want string) {
		t.Helper()
		asked++
		if got := outcome(t, sites[asked%2], header, cursor); got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
			return
		}
		right++
	}

	empty := cursorOf(t, l, "notify.ann")
	tell(t, l, "ann", 3)
	three := cursorOf(t, l, "notify.ann")
	tell(t, l, "ann", 2)
	tell(t, l, "ben", 3)
	for range 2 { // at both processes
		expect("of the empty group", empty, "resumed 5")
		expect("behind three", three, "resumed 2")
		expect("behind all", cursorOf(t, l, "notify.ann"), "resumed 0")
	}

	const forged = "bad_cursor, gap reset"
	for i := range three {
		other := "A"
		if three[i] == 'A' {
			other = "B"
		}
		expect(fmt.Sprint("another letter at ", i), three[:i]+other+three[i+1:], forged)
	}
	for n := 1; n < len(three); n += 7 {
		expect("cut off", three[:n], forged)
	}
	expect("longer", three+"A", forged)
	expect("no cursor", "123.456", forged)
	for _, group := range []string{"notify.ben", "notify.an", "notify.ann.x"} {
		expect("of "+group, cursorOf(t, l, group), forged)
	}
	expect("of another network", strangersCursor(t), forged)

	tell(t, l, "ann", 2000)
	for range 2 {
		expect("of what is no longer kept", three, "gap trimmed")
		expect("behind all of it", cursorOf(t, l, "notify.ann"), "resumed 0")
	}

	deleteStream(t, broker)
	for _, s := range sites {
		s.kill()
		s.up()
	}
	again := networkOf(t, broker)
	tell(t, again, "ann", 1)
	for range 2 {
		expect("of the stream before", three, "gap reset")
		expect("of the stream now", cursorOf(t, again, "notify.ann"), "resumed 0")
	}
	t.Logf("%d of %d cursors were classified right", right, asked)
	for _, s := range sites {
		s.stop()
	}
}

// cursorOf is what a page that is rendered now gets.
func cursorOf(t *testing.T, l *layer.Layer, group string) string {
	t.Helper()
	at, err := l.Position(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	return consumer.Cursor(l, group, at)
}

// strangersCursor is a genuine cursor for the group, of a network of its own.
func strangersCursor(t *testing.T) string {
	t.Helper()
	l, err := layer.New(membus.New(), &layer.Options{Groups: []layer.Retention{{Pattern: "notify.>"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close(context.Background())
	return cursorOf(t, l, "notify.ann")
}

// tell tells a user n things, many at a time.
func tell(t *testing.T, l *layer.Layer, user string, n int) {
	t.Helper()
	var all sync.WaitGroup
	errs := make([]error, 20)
	for i := range errs {
		all.Go(func() {
			for k := i; k < n && errs[i] == nil; k += len(errs) {
				errs[i] = l.GroupSend(t.Context(), "notify."+user, told("something"))
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// deleteStream takes the stream of the inboxes away.
func deleteStream(t *testing.T, broker string) {
	t.Helper()
	nc, err := nats.Connect("nats://"+broker, nats.Timeout(20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	name, err := js.StreamNameBySubject(t.Context(), "channels.grp.notify.ann")
	if err == nil {
		err = js.DeleteStream(t.Context(), name)
	}
	if err != nil {
		t.Fatal(err)
	}
}
