package gameserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Serve serves a fleet at addr, writes its URL to out as one line, and returns
// when ctx ends or in does: a process that was started by another one has its
// pipe for that, and so ends with it, however that one died.
func Serve(ctx context.Context, addr string, pace time.Duration, in io.Reader, out io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("gameserver: %w", err)
	}
	srv := &http.Server{Handler: New(pace), ReadHeaderTimeout: 5 * time.Second}
	defer srv.Close()
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(ln) }()
	if in != nil {
		go func() {
			_, _ = io.Copy(io.Discard, in) // the end is what it waits for
			stop()
		}()
	}
	if _, err := fmt.Fprintf(out, "http://%s\n", ln.Addr()); err != nil {
		return fmt.Errorf("gameserver: %w", err)
	}
	select {
	case err := <-failed:
		return fmt.Errorf("gameserver: %w", err)
	case <-ctx.Done():
		return nil
	}
}

// Child starts this program once more, with arguments that make it call [Serve]
// with its standard input and output, and returns the fleet's URL. Stop ends the
// process and waits for it.
func Child(args ...string) (url string, stop func() error, err error) {
	program, err := os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("gameserver: %w", err)
	}
	cmd := exec.Command(program, args...)
	cmd.Args[0] = os.Args[0]
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, fmt.Errorf("gameserver: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, fmt.Errorf("gameserver: %w", err)
	}
	detach(cmd)
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("gameserver: %w", err)
	}
	stop = func() error {
		in.Close()
		return cmd.Wait()
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("gameserver: %s did not say where it listens: %w", program, err), stop())
	}
	return strings.TrimSpace(line), stop, nil
}
