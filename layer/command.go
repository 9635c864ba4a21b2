package layer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// CommandFunc carries out a command that a process of the network gave. What it
// returns is the answer, in JSON. It may be called from many goroutines.
type CommandFunc func(ctx context.Context, args json.RawMessage) (any, error)

type command struct{ run CommandFunc }

// OnCommand makes this process carry out the command of that name, from
// whichever process it comes. A name may have several functions; each answers.
// stop takes f away again. Names without a period belong to Tideway.
func (l *Layer) OnCommand(name string, f CommandFunc) (stop func()) {
	c := &command{f}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commands[name] = append(l.commands[name], c)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.commands[name] = slices.DeleteFunc(slices.Clone(l.commands[name]), func(o *command) bool { return o == c })
	}
}

// Command has process carry out a command, or every process of the network when
// process is "", this one included, and returns the answers in no particular
// order. Of many processes those count that answer soon, and errors of some are
// returned beside the answers of the others.
func (l *Layer) Command(ctx context.Context, process, name string, args any) ([]json.RawMessage, error) {
	raw, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("layer: command %s: its arguments: %w", name, err)
	}
	request, err := json.Marshal(commandRequest{name, raw})
	if err != nil {
		return nil, fmt.Errorf("layer: command %s: %w", name, err)
	}
	replies, err := l.link.Call(ctx, process, request)
	if err != nil {
		return nil, err
	}
	var answers []json.RawMessage
	var errs []error
	for _, r := range replies {
		var a commandAnswer
		if err := json.Unmarshal(r, &a); err != nil {
			errs = append(errs, &MessageError{Why: "an answer to the command " + name, Err: err})
			continue
		}
		answers = append(answers, a.OK...)
		if a.Error != nil {
			errs = append(errs, a.Error.err())
		}
	}
	return answers, errors.Join(errs...)
}

// commandRequest and commandAnswer are what travels, in JSON.
type (
	commandRequest struct {
		Op   string          `json:"op"`
		Args json.RawMessage `json:"args,omitempty"`
	}
	commandAnswer struct {
		OK    []json.RawMessage `json:"ok,omitempty"`
		Error *commandError     `json:"error,omitempty"`
	}
	commandError struct {
		Code    string `json:"code,omitempty"`
		Message string `json:"message"`
	}
)

// answer runs all functions of the command that was asked for.
func (l *Layer) answer(ctx context.Context, request []byte) (a commandAnswer) {
	var r commandRequest
	if err := json.Unmarshal(request, &r); err != nil || r.Op == "" {
		l.malformed("control", 1, err)
		return commandAnswer{Error: &commandError{Message: `a command is {"op":"...","args":{...}}`}}
	}
	l.mu.RLock()
	commands := l.commands[r.Op]
	l.mu.RUnlock()
	for _, c := range commands {
		v, err := c.run(ctx, r.Args)
		if err != nil {
			a.Error = newCommandError(err)
			continue
		}
		raw, err := json.Marshal(v)
		if err != nil {
			a.Error = newCommandError(err)
			continue
		}
		a.OK = append(a.OK, raw)
	}
	return a
}

// errorCodes name the errors that keep their identity across processes.
var errorCodes = map[string]error{
	"full": ErrChannelFull, "too_large": ErrTooLarge, "unavailable": ErrUnavailable, "closed": ErrClosed, "no_channel": ErrNoChannel,
	"too_many_groups": ErrTooManyGroups,
}

func newCommandError(err error) *commandError {
	e := &commandError{Message: err.Error()}
	for code, sentinel := range errorCodes {
		if errors.Is(err, sentinel) {
			e.Code = code
		}
	}
	return e
}

func (e *commandError) err() error {
	if sentinel := errorCodes[e.Code]; sentinel != nil {
		if e.Message == sentinel.Error() {
			return sentinel
		}
		return fmt.Errorf("%w (%s)", sentinel, e.Message)
	}
	return errors.New(e.Message)
}

// answerMembership lets other processes add and discard this one's channels.
func (l *Layer) answerMembership() {
	for _, verb := range []string{"add", "discard"} {
		l.OnCommand(verb, func(ctx context.Context, args json.RawMessage) (any, error) {
			return struct{}{}, l.remote(ctx, verb, args)
		})
	}
}
