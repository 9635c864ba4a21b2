package jobapi_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tideway-go/tideway/layer/membus"
	"github.com/tideway-go/tideway/router/httpapi"
)

// The worker of docs/reference/jobs.md, to which it does not matter what a payload
// looks like.
func TestBashWorker(t *testing.T) {
	_, s := open(t, membus.New(), nil)
	id := ask(t, s, "POST", "/api/v1/jobs/backup", `{"payload":{"job":"x","token":"y"}}`, 202)["job"].(string)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "../../examples/curlworker/worker.sh", "backup")
	cmd.Env = append(os.Environ(), "SITE="+s.URL, "TIDEWAY_API_KEY="+key)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	cmd.WaitDelay = time.Second // its curl may wait for the next job
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); cmd.Wait() }()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || strings.TrimSpace(line) != "at work on "+id {
		t.Fatalf("the worker says %q, %v", line, err)
	}
	stream(t, s, id, "")
	v := ask(t, s, "GET", "/api/v1/jobs/"+id, "", 200)
	result, _ := v["result"].(map[string]any)
	if v["state"] != "succeeded" || result["files"] != 42.0 || v["done"] != 5.0 {
		t.Errorf("got %v", v)
	}
}

// A worker that waits for a job does not hold up the server's end.
func TestTakeEndsWithTheServer(t *testing.T) {
	_, s := open(t, membus.New(), nil)
	go s.Config.Handler.(*httpapi.API).Shutdown(context.Background())
	if v := ask(t, s, "POST", "/api/v1/jobs/backup/take?wait=50", "", 503); code(v) != "shutting_down" {
		t.Errorf("got %v", v)
	}
}
