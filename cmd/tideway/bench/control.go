package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// order is one line to a child on its standard input, a JSON object. All but a
// grant are answered by one line; one order is under way at a time.
type order struct {
	Start  *Site   `json:"start,omitempty"`  // the first
	Stream *stream `json:"stream,omitempty"` // publish it
	Grant  int64   `json:"grant,omitempty"`  // credit for the stream under way
	Fill   *fill   `json:"fill,omitempty"`   // store it
	Drive  *drive  `json:"drive,omitempty"`  // be many clients
	Gather *gather `json:"gather,omitempty"` // say what they got
	Stat   *stat   `json:"stat,omitempty"`

	Profile *string `json:"profile,omitempty"` // begin to write one there; "" is its end
}

// Site says what a child has to be.
type Site struct {
	Broker string `json:"broker,omitempty"` // its address; "" is one of the child's own
	Prefix string `json:"prefix,omitempty"` // of the broker's subjects
	Shared bool   `json:"shared,omitempty"` // another process publishes through the broker
	Serve  bool   `json:"serve,omitempty"`  // serve WebSocket connections
	Floor  bool   `json:"floor,omitempty"`  // be nothing but a floor
	Drive  bool   `json:"drive,omitempty"`  // be a load client, and no server
	Keep   int    `json:"keep,omitempty"`   // messages of each group that are stored; 0 is none
	Seat   *Seat  `json:"seat,omitempty"`   // of one server of a cluster; nil stands alone

	Deflate   bool `json:"deflate,omitempty"`   // clients may ask for permessage-deflate
	Admission int  `json:"admission,omitempty"` // of handshakes a second; 0 is the router's default, negative no limit
}

// Seat is a server's place in a cluster.
type Seat struct {
	Index  int      `json:"index"`
	Routes []string `json:"routes"` // the addresses at which the servers reach each other
}

// Opened says how clients and publishers reach a child.
type Opened struct {
	Addr    string `json:"addr,omitempty"`    // host and port, if it serves
	Broker  string `json:"broker,omitempty"`  // for other processes to publish
	Path    string `json:"path,omitempty"`    // of a room, where %d is its number; "" is as the bench's own
	Hello   string `json:"hello,omitempty"`   // what a client says first, if anything
	Replies int    `json:"replies,omitempty"` // messages that answer Hello
	PIDs    []int  `json:"pids,omitempty"`    // further processes that are a part of it
}

// fill says which messages to store in durable groups, as fast as it goes. The
// marks of a group's messages count up.
type fill struct {
	Groups int   `json:"groups"`
	Each   int   `json:"each"`  // messages of each group
	First  int64 `json:"first"` // the mark of its first
	Size   int   `json:"size"`
}

// stat asks for counts, behind a garbage collection if Collect is set.
type stat struct {
	Collect bool `json:"collect,omitempty"`
}

// answer is a child's.
type answer struct {
	Err      string    `json:"err,omitempty"`
	Opened   *Opened   `json:"opened,omitempty"`
	Streamed *streamed `json:"streamed,omitempty"`
	Counts   *counts   `json:"counts,omitempty"`
	Driven   *driven   `json:"driven,omitempty"`
	Gathered *gathered `json:"gathered,omitempty"`
}

// counts is the state of a child.
type counts struct {
	Connections int   `json:"connections"`
	Goroutines  int   `json:"goroutines"`
	Heap        int64 `json:"heap"`  // bytes of objects
	Stack       int64 `json:"stack"` // bytes of goroutines' stacks
}

// child is another process of this program.
type child struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	opened Opened

	mu sync.Mutex // guards writes to in
}

// ProgramName is the name under which a child finds itself called, whatever
// file it is.
const ProgramName = "tideway"

// startChild starts a process that Serve serves: this program, or a peer.
func startChild(ctx context.Context, peer *Peer, s Site, stderr io.Writer) (*child, error) {
	c := &child{}
	if peer != nil {
		c.cmd = exec.CommandContext(ctx, peer.Command[0], peer.Command[1:]...)
	} else {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("where is this program? %w", err)
		}
		c.cmd = exec.CommandContext(ctx, exe)
		c.cmd.Args = []string{ProgramName, "bench", "serve"}
	}
	c.cmd.Stderr = stderr
	// The end of its input ends a child, which then removes what it stored.
	c.cmd.Cancel = func() error { return c.in.Close() }
	c.cmd.WaitDelay = 30 * time.Second // thousands of connections take a while to end
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	c.out = bufio.NewScanner(out)
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("the bench's server: %w", err)
	}
	a, err := c.ask(order{Start: &s})
	if err == nil && a.Opened == nil {
		err = errors.New("the bench's server does not say how it is reached")
	}
	if err != nil {
		return nil, errors.Join(err, c.close())
	}
	c.opened = *a.Opened
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// ask gives an order and waits for the answer.
func (c *child) ask(o order) (answer, error) {
	if err := c.tell(o); err != nil {
		return answer{}, err
	}
	return c.answer()
}

// answer waits for the answer to an order that was told.
func (c *child) answer() (answer, error) {
	if !c.out.Scan() {
		return answer{}, errors.Join(errors.New("the bench's server ended before it answered"), c.out.Err())
	}
	var a answer
	if err := json.Unmarshal(c.out.Bytes(), &a); err != nil {
		return answer{}, fmt.Errorf("the bench's server answered %.80q: %w", c.out.Bytes(), err)
	}
	if a.Err != "" {
		return a, fmt.Errorf("the bench's server: %s", a.Err)
	}
	return a, nil
}

// tell gives an order.
func (c *child) tell(o order) error {
	line, err := json.Marshal(o)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("the bench's server does not listen any more: %w", err)
	}
	return nil
}

// close ends the process.
func (c *child) close() error {
	c.in.Close()
	killer := time.AfterFunc(c.cmd.WaitDelay, func() { c.cmd.Process.Kill() })
	defer killer.Stop()
	if err := c.cmd.Wait(); err != nil {
		return fmt.Errorf("the end of the bench's server: %w", err)
	}
	return nil
}
