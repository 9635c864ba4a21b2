package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[2] == "game-servers" { // a demo in a test has started it
		main()
		return
	}
	testscript.Main(m, map[string]func(){"tideway": main, "jobworker": jobWorker})
}

// The scripts are a manual that is tried. Beside testscript's own commands they
// use these:
//
//	start NAME COMMAND...       run a program in the background, its output in NAME.out and NAME.err
//	await FILE REGEXP [VAR...]  wait until a file matches, and set variables to the groups
//	halt NAME                   send SIGTERM to a program; it must end with status 0
//	ended NAME                  wait for a program's end; it must end with status 0
//	exits STATUS COMMAND...     run a program, which must end with that very status
//	eventually REGEXP COMMAND... run a program until its output matches
//	workshop PICTURE...         serve the queue "thumbnails" on $NATS_URL, and put messages into it
//	get STATUS URL              fetch a page to stdout
//	ws NAME URL                 open a socket; what it gets is in NAME.ws
//	say NAME TEXT               send a text message on a socket
//	proxy NAME VAR URL          put a proxy before a NATS server, and its URL into a variable
//	cut NAME, mend NAME         end all connections through a proxy, and let new ones through again
//	site VAR                    serve a chat whose users log in with ?user=, on $NATS_URL
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("GORACE", "atexit_sleep_ms=0") // else each program waits a second
			worker, err := filepath.Abs("../../examples/curlworker/worker.sh")
			if err != nil {
				return err
			}
			e.Setenv("WORKER", worker)
			e.Values[stageKey{}] = &stage{processes: map[string]*process{}, sockets: map[string]*socket{}, proxies: map[string]*proxy{}}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"start":      command("start NAME COMMAND...", 2, (*stage).start),
			"await":      command("await FILE REGEXP [VAR...]", 2, (*stage).await),
			"halt":       command("halt NAME", 1, (*stage).stop),
			"ended":      command("ended NAME", 1, (*stage).ended),
			"exits":      command("exits STATUS COMMAND...", 2, (*stage).exits),
			"eventually": command("eventually REGEXP COMMAND...", 2, (*stage).eventually),
			"workshop":   command("workshop PICTURE...", 1, (*stage).workshop),
			"get":        command("get STATUS URL", 2, (*stage).get),
			"ws":         command("ws NAME URL", 2, (*stage).ws),
			"say":        command("say NAME TEXT", 2, (*stage).say),
			"proxy":      command("proxy NAME VAR URL", 3, (*stage).proxy),
			"cut":        command("cut NAME", 1, (*stage).cut),
			"mend":       command("mend NAME", 1, (*stage).mend),
			"site":       command("site VAR", 1, (*stage).site),
		},
	})
}

type stageKey struct{}

// stage is what one script started.
type stage struct {
	processes map[string]*process
	sockets   map[string]*socket
	proxies   map[string]*proxy
}

type process struct {
	*exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // of Wait; read after done
}

// command makes a script's command of a method.
func command(usage string, least int, f func(*stage, *testscript.TestScript, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) < least {
			ts.Fatalf("usage: %s", usage)
		}
		ts.Check(f(ts.Value(stageKey{}).(*stage), ts, args))
	}
}

// handed are the variables of the script that a program in the background sees.
var handed = []string{"HOME", "PATH", "TMPDIR", "NATS_URL", "NATS_CREDS", "TIDEWAY_PREFIX", "TIDEWAY_CLUSTER_SECRET", "TIDEWAY_API_KEY", "TIDEWAY_ROLLOUT_USERS", "SITE", "NO_COLOR", "TERM", "GOCOVERDIR", "GORACE"}

func (s *stage) start(ts *testscript.TestScript, args []string) error {
	p := &process{Cmd: exec.Command(args[1], args[2:]...), done: make(chan struct{})}
	p.Dir = ts.MkAbs(".")
	for _, name := range handed {
		p.Env = append(p.Env, name+"="+ts.Getenv(name))
	}
	var files []*os.File
	for _, suffix := range []string{".out", ".err"} {
		f, err := os.Create(ts.MkAbs(args[0] + suffix))
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	p.Stdout, p.Stderr = files[0], files[1]
	if err := p.Start(); err != nil {
		return err
	}
	go func() {
		p.err = p.Wait()
		close(p.done)
	}()
	ts.Defer(func() {
		p.Process.Kill() // if it has not ended
		<-p.done
		for _, f := range files {
			f.Close()
			text, _ := os.ReadFile(f.Name())
			ts.Logf("[%s]\n%s", filepath.Base(f.Name()), text)
		}
	})
	s.processes[args[0]] = p
	return nil
}

func (s *stage) await(ts *testscript.TestScript, args []string) error {
	re, err := regexp.Compile("(?m)" + args[1])
	if err != nil {
		return err
	}
	var text string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		b, _ := os.ReadFile(ts.MkAbs(args[0])) // it may not be there yet
		text = string(b)
		groups := re.FindStringSubmatch(text)
		if len(groups) == 0 {
			continue
		}
		if len(groups) <= len(args)-2 {
			return fmt.Errorf("%s has %d groups", re, len(groups)-1)
		}
		for i, name := range args[2:] {
			ts.Setenv(name, groups[i+1])
		}
		return nil
	}
	return fmt.Errorf("%s does not match %s within %v:\n%s", args[0], re, patience, text)
}

func (s *stage) stop(ts *testscript.TestScript, args []string) error {
	if p := s.processes[args[0]]; p != nil {
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
	}
	return s.ended(ts, args)
}

func (s *stage) ended(_ *testscript.TestScript, args []string) error {
	p := s.processes[args[0]]
	if p == nil {
		return fmt.Errorf("nothing was started as %s", args[0])
	}
	select {
	case <-p.done:
		return p.err
	case <-time.After(patience):
		return fmt.Errorf("%s still runs after %v", args[0], patience)
	}
}

func (s *stage) exits(ts *testscript.TestScript, args []string) error {
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		return err
	}
	if want, err := strconv.Atoi(args[0]); err != nil || got != want {
		return fmt.Errorf("got exit status %d, want %s", got, args[0])
	}
	return nil
}

func (s *stage) eventually(ts *testscript.TestScript, args []string) error {
	re, err := regexp.Compile("(?m)" + args[0])
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		text := ts.ReadFile("stdout")
		switch {
		case err == nil && re.MatchString(text):
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%q does not print %s within %v: %s, %v", args[1:], re, patience, text, err)
		}
	}
}

func (s *stage) get(ts *testscript.TestScript, args []string) error {
	client := &http.Client{Timeout: patience}
	res, err := client.Get(args[1])
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(ts.Stdout(), res.Body); err != nil {
		return err
	}
	if got := strconv.Itoa(res.StatusCode); got != args[0] {
		return fmt.Errorf("%s: got status %s, want %s", args[1], got, args[0])
	}
	return nil
}

func (s *stage) ws(ts *testscript.TestScript, args []string) error {
	file, err := os.Create(ts.MkAbs(args[0] + ".ws"))
	if err != nil {
		return err
	}
	client, err := dialSocket(args[1])
	if err != nil {
		return errors.Join(err, file.Close())
	}
	s.sockets[args[0]] = client
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			text, err := client.next()
			if text != "" {
				fmt.Fprintln(file, text)
			}
			if err != nil {
				return
			}
		}
	}()
	ts.Defer(func() {
		client.Close()
		<-done
		file.Close()
	})
	return nil
}

func (s *stage) say(_ *testscript.TestScript, args []string) error {
	client := s.sockets[args[0]]
	if client == nil {
		return fmt.Errorf("there is no socket %s", args[0])
	}
	return client.say(strings.Join(args[1:], " "))
}

func (s *stage) proxy(ts *testscript.TestScript, args []string) error {
	p, err := startProxy(strings.TrimPrefix(args[2], "nats://"))
	if err != nil {
		return err
	}
	ts.Defer(p.stop)
	ts.Setenv(args[1], "nats://"+p.Addr().String())
	s.proxies[args[0]] = p
	return nil
}

func (s *stage) cut(_ *testscript.TestScript, args []string) error {
	s.proxies[args[0]].cut()
	return nil
}

func (s *stage) mend(_ *testscript.TestScript, args []string) error {
	s.proxies[args[0]].mend()
	return nil
}
