package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/tideway-go/tideway/examples/internal/freeport"
)

const apiKey = "a-key-for-these-tests"

// keeping is a demo that keeps the messages of news, and may be started again at
// the same place.
type keeping struct {
	*demo
	dir string
	n   int // lines that were published
}

func startKeeping(t *testing.T) *keeping {
	k := &keeping{demo: &demo{addr: freeport.Addr(t), nats: freeport.Addr(t)}, dir: t.TempDir()}
	k.again(t)
	return k
}

// again starts the demo, after it ended.
func (k *keeping) again(t *testing.T) {
	t.Helper()
	k.process = start(t, k.dir, []string{"TIDEWAY_API_KEY=" + apiKey}, tideway, "demo", "--addr", k.addr, "--nats-addr", k.demo.nats,
		"--store", k.dir, "--durable", "news.>")
	k.ready()
}

// post makes a request to the door, and returns the answer.
func (k *keeping) post(path, body string) (answer map[string]any) {
	k.t.Helper()
	r, err := http.NewRequest("POST", "http://"+k.addr+path, strings.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	r.Header.Set("X-API-Key", apiKey)
	r.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		k.t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || res.StatusCode >= 300 {
		k.t.Fatalf("%s: %s, %v (%v)", path, res.Status, answer, err)
	}
	return answer
}

// publish publishes so many lines, and returns the place behind the last.
func (k *keeping) publish(lines int) (at string) {
	k.t.Helper()
	for range lines {
		k.n++
		at = k.post("/api/v1/groups/news.today/messages", fmt.Sprintf(`{"type":"line","n":%d}`, k.n))["at"].(string)
	}
	return at
}

// A page behind nginx follows a group with an EventSource, as docs/howto/http.md
// says. The server is killed under it and comes back a little later, and nginx
// answers 502 meanwhile: the page has every line once, in order.
func TestEventSourceThroughNGINX(t *testing.T) {
	t.Parallel() // most of it waits
	k := startKeeping(t)
	n := startNGINX(t, k.addr, "")
	at := k.publish(1)
	token := k.post("/api/v1/groups/news.today/tokens", "")["token"].(string)

	w := open(t, startBrowser(t), "about:blank")
	w.trust()
	w.do(chromedp.Navigate("https://" + n.addr + "/healthz"))
	eval[bool](w, fmt.Sprintf(`(() => {
		window.lines = []; window.gaps = 0;
		%s
		window.follow = follow;
		follow('/api/v1/groups/news.today/events?token=%s', '%s', (m) => lines.push(m.n), () => gaps++);
		return true;
	})()`, fenced(t, "howto/http.md", "js")[0], token, at))

	complete := func(what string) {
		t.Helper()
		eventually(t, time.Minute, what, func() bool { return eval[int](w, "lines.length") >= k.n-1 })
		var want []int
		for i := 2; i <= k.n; i++ {
			want = append(want, i)
		}
		if got := eval[[]int](w, "lines"); fmt.Sprint(got) != fmt.Sprint(want) || eval[int](w, "gaps") != 0 {
			t.Fatalf("%s: got %v, want %v", what, got, want)
		}
	}
	k.publish(3)
	complete("lines as they come")

	k.kill()
	time.Sleep(4 * time.Second) // the page comes back to a proxy without a server
	k.again(t)
	k.publish(3)
	complete("lines after a kill")

	k.stop()
	k.again(t)
	k.publish(3)
	complete("lines after a restart")
	k.stop()
}

// curl follows, and comes back by Last-Event-ID after the server was killed;
// Python's standard library sends and reads.
func TestHTTPDoorFromScripts(t *testing.T) {
	k := startKeeping(t)
	at := k.publish(1)
	url := "http://" + k.addr + "/api/v1/groups/news.today"
	follow := func(from string) *process {
		return start(t, k.dir, nil, "curl", "-sSN", "-H", "X-API-Key: "+apiKey, "-H", "Last-Event-ID: "+from, url+"/events")
	}
	first := follow(at)
	k.publish(2)
	eventually(t, 30*time.Second, "two events", func() bool { return strings.Contains(first.output.String(), `"n":3}`+"\n\n") })
	k.kill()
	<-first.done
	ids := strings.Split(first.output.String(), "id: ")
	last, _, _ := strings.Cut(ids[len(ids)-1], "\n")

	k.again(t)
	k.publish(2)
	second := follow(last)
	eventually(t, 30*time.Second, "what was missed", func() bool { return strings.Contains(second.output.String(), `"n":5}`) })
	if got := second.output.String(); strings.Contains(got, `"n":3}`) || !strings.Contains(got, `"n":4}`) {
		t.Errorf("after coming back: %s", got)
	}

	out, err := exec.CommandContext(t.Context(), python, "testdata/door.py", url, apiKey).CombinedOutput()
	if err != nil || string(out) != "stored\nduplicate\n[5, 6]\n6\n401 unauthorized\n415 media_type\n" {
		t.Errorf("got %s (%v)", out, err)
	}
	k.stop()
}
