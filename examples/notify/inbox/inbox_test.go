package inbox

import (
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tideway-go/tideway/consumer/client"
)

// inboxPage is what a browser takes out of the page.
type inboxPage struct {
	group, at string
	texts     []string // the newest on top
	unread    int
}

var (
	pageData = regexp.MustCompile(`data-group="([^"]+)" data-at="([^"]+)"`)
	pageLine = regexp.MustCompile(`<li( class="unread")?><span>([^<]*)</span>`)
)

func (b *browser) inbox() (p inboxPage) {
	b.t.Helper()
	_, body := b.read(Path)
	data := pageData.FindStringSubmatch(body)
	if data == nil {
		b.t.Fatalf("the page has no place to go on from:\n%s", body)
	}
	p.group, p.at = data[1], data[2]
	for _, line := range pageLine.FindAllStringSubmatch(body, -1) {
		p.texts = append(p.texts, line[2])
		if line[1] != "" {
			p.unread++
		}
	}
	return p
}

// follow connects as the page's client does, from the page's place.
func (b *browser) follow(p inboxPage) *client.Conn {
	b.t.Helper()
	c, err := client.Dial(b.t.Context(), b.site+Path+"ws/", &client.Options{
		Header: b.socket().Header, Resume: client.Resume{Cursors: map[string]string{p.group: p.at}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(c.Vanish)
	return c
}

// next returns the next event, which for a message is its data in short.
func next(t *testing.T, c *client.Conn) string {
	t.Helper()
	e, err := c.Receive(t.Context())
	switch {
	case err != nil:
		t.Fatal(err)
	case e.Joined != nil:
		return e.Joined.Outcome + e.Joined.Reason
	case e.Data == nil:
		t.Fatalf("got the event %+v", e)
	}
	var m struct {
		Type, Text string
		Left       int
	}
	if err := json.Unmarshal(e.Data, &m); err != nil {
		t.Fatal(err)
	}
	if m.Type == "notify.read" {
		return "read but " + string(rune('0'+m.Left))
	}
	return m.Text
}

func expect(t *testing.T, c *client.Conn, want ...string) {
	t.Helper()
	var got []string
	for range want {
		got = append(got, next(t, c))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What comes between the page and its socket is not lost, and what the page has
// does not come again.
func TestPageGoesOn(t *testing.T) {
	_, server := serve(t)
	ann := newBrowser(t, server.URL)
	ann.post(Path+"login", url.Values{"user": {"ann"}})
	empty := ann.inbox()
	ann.post(Path+"notify/ann", text("one"))
	ann.post(Path+"notify/ann", text("two"))
	page := ann.inbox()
	if want := []string{"two", "one"}; !slices.Equal(page.texts, want) || page.unread != 2 {
		t.Errorf("the page has %q, %d unread; want %q, all unread", page.texts, page.unread, want)
	}
	ann.post(Path+"notify/ann", text("three"))
	expect(t, ann.follow(empty), "resumed", "one", "two", "three")
	expect(t, ann.follow(page), "resumed", "three")
}

// What is read in one window is read in all, and on the next page. What came
// after what the window showed is not.
func TestMarkAsRead(t *testing.T) {
	_, server := serve(t)
	ann := newBrowser(t, server.URL)
	ann.post(Path+"login", url.Values{"user": {"ann"}})
	ann.post(Path+"notify/ann", text("one"))
	page := ann.inbox()
	ann.post(Path+"notify/ann", text("two"))
	first, second := ann.follow(page), ann.follow(ann.inbox())
	expect(t, first, "resumed", "two")
	if err := second.Send(t.Context(), seen{page.at}); err != nil {
		t.Fatal(err)
	}
	expect(t, second, "resumed", "read but 1")
	expect(t, first, "read but 1")
	page = ann.inbox()
	if page.unread != 1 || len(page.texts) != 2 {
		t.Errorf("the page has %q, %d unread; want two, one of them unread", page.texts, page.unread)
	}
	if err := first.Send(t.Context(), seen{page.at}); err != nil {
		t.Fatal(err)
	}
	expect(t, second, "read but 0")
	if page = ann.inbox(); page.unread != 0 {
		t.Errorf("%d are unread, want none", page.unread)
	}
	ann.post(Path+"notify/ann", text("three"))
	if page = ann.inbox(); page.unread != 1 {
		t.Errorf("%d are unread, want the new one", page.unread)
	}
}

// A place that was never given out, or that is another user's, marks nothing.
func TestMarkAsReadRefused(t *testing.T) {
	_, server := serve(t)
	ann, ben := newBrowser(t, server.URL), newBrowser(t, server.URL)
	ann.post(Path+"login", url.Values{"user": {"ann"}})
	ben.post(Path+"login", url.Values{"user": {"ben"}})
	ann.post(Path+"notify/ann", text("one"))
	c := ann.follow(ann.inbox())
	expect(t, c, "resumed")
	for _, at := range []string{"", "nonsense", ben.inbox().at, strings.ToLower(ann.inbox().at)} {
		if err := c.Send(t.Context(), seen{at}); err != nil {
			t.Fatal(err)
		}
		if e, err := c.Receive(t.Context()); err != nil || e.Err == nil || e.Err.Code != "position" {
			t.Errorf("%q: got %+v, %v; want it refused", at, e, err)
		}
	}
	if p := ann.inbox(); p.unread != 1 {
		t.Errorf("%d are unread, want 1", p.unread)
	}
}
