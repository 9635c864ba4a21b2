package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/spf13/cobra"

	"github.com/tideway-go/tideway/layer"
)

// sending is one run of `tideway send`.
type sending struct {
	*program
	group, channel string
	text           *string // the message on the command line
	file           string
	quiet          bool
}

func (p *program) sendCommand() *cobra.Command {
	s := &sending{program: p}
	c := &cobra.Command{
		Use:   "send GROUP [JSON] | send --channel NAME [JSON]",
		Short: "Send messages to a group or a channel",
		Long: `Send sends a message to a group, whose members get it in every process and on
every page, or to one channel. A message is a JSON object with a string "type".

Without JSON on the command line, messages come from --file or from stdin, one a
line; blank lines are skipped. Sending stops at the first line that is no
message; those before it were sent. Send returns when the server has taken all.

To a durable group it returns when all is stored, and prints for each message the
place behind it, for --from of history and tail.`,
		Example: `  tideway send chat.lobby '{"type":"chat.message","user":"script","text":"hello"}'
  tideway send chat.lobby --file messages.jsonl
  produce-messages | tideway send chat.lobby
  tideway send --channel thumbnails '{"type":"thumbnail.make","id":7}'`,
		Args: s.args,
		RunE: func(c *cobra.Command, _ []string) error { return s.run(c.Context()) },
	}
	f := c.Flags()
	f.StringVar(&s.channel, "channel", "", "send to the channel `NAME`, not to a group")
	f.StringVarP(&s.file, "file", "f", "", "read messages from `PATH`, one a line; - is stdin")
	f.BoolVarP(&s.quiet, "quiet", "q", false, "do not say what was sent")
	return c
}

// args takes the command line apart: GROUP [JSON], or [JSON] with --channel.
func (s *sending) args(_ *cobra.Command, args []string) error {
	if s.channel == "" {
		if len(args) == 0 {
			return usagef("to whom? give a group, or --channel")
		}
		s.group, args = args[0], args[1:]
		if err := layer.CheckGroup(s.group); err != nil {
			return err
		}
	} else if err := layer.CheckChannel(s.channel); err != nil {
		return err
	}
	switch {
	case len(args) > 1:
		return usagef("%q is one argument too many; put the message into single quotes", args[1])
	case len(args) == 1 && s.file != "":
		return usagef("the message is given twice: as an argument and by --file")
	case len(args) == 1:
		s.text = &args[0]
		_, err := layer.ParseMessage([]byte(args[0]))
		return err
	}
	return nil
}

func (s *sending) run(ctx context.Context) (err error) {
	input, err := s.open()
	if err != nil {
		return err
	}
	defer input.Close()
	g, err := s.join(ctx, layer.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, g.leave(ctx)) }()
	reconnects := g.bus.Conn().Stats().Reconnects
	n, err := s.sendAll(ctx, g.layer, input)
	if flushed := s.flush(ctx, g, reconnects); flushed != nil {
		return errors.Join(err, fmt.Errorf("of %s some may be lost: %w", plural(n, "message"), flushed))
	}
	if n > 0 && !s.quiet || err != nil && s.text == nil {
		s.note("%s sent to %s", plural(n, "message"), s.target())
	}
	return err
}

func (s *sending) target() string {
	if s.channel != "" {
		return "the channel " + s.channel
	}
	return "the group " + s.group
}

// open returns where the messages come from.
func (s *sending) open() (io.ReadCloser, error) {
	switch {
	case s.text != nil:
		return io.NopCloser(bytes.NewReader(nil)), nil
	case s.file != "" && s.file != "-":
		return os.Open(s.file)
	}
	if isTerminal(s.stdin) {
		s.note("reading messages from the terminal, one a line; Ctrl-D ends")
	}
	return io.NopCloser(s.stdin), nil
}

// sendAll sends the message of the command line, or all of input, and returns
// how many it sent.
func (s *sending) sendAll(ctx context.Context, l *layer.Layer, input io.Reader) (n int, err error) {
	if s.text != nil {
		if err := s.sendOne(ctx, l, []byte(*s.text)); err != nil {
			return 0, err
		}
		return 1, nil
	}
	for line, err := range lines(ctx, input) {
		if err == nil {
			err = s.sendOne(ctx, l, line.text)
		}
		if err != nil {
			return n, fmt.Errorf("line %d: %w", line.number, err)
		}
		n++
	}
	return n, nil
}

func (s *sending) sendOne(ctx context.Context, l *layer.Layer, text []byte) error {
	m, err := layer.ParseMessage(text)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.server.timeout)
	defer cancel()
	if s.channel == "" {
		r, err := l.Publish(ctx, s.group, m, nil)
		if err == nil && !r.Position.IsZero() && !s.quiet {
			_, err = fmt.Fprintln(s.stdout, r.Position)
		}
		return err
	}
	err = l.Send(ctx, s.channel, m)
	switch {
	case errors.Is(err, layer.ErrChannelFull):
		return fmt.Errorf("the channel %s is full, and the message was not sent; try again later, or let more workers read it", s.channel)
	case errors.Is(err, layer.ErrNoChannel):
		return fmt.Errorf("there is no channel %s, or it is gone with its process", s.channel)
	}
	return err
}

// flush waits until the server has taken what was sent. A connection that broke
// meanwhile may have taken messages with it.
func (s *sending) flush(ctx context.Context, g *guest, reconnects uint64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.server.timeout)
	defer cancel()
	if err := g.bus.Conn().FlushWithContext(ctx); err != nil {
		return fmt.Errorf("the server did not confirm them: %w", err)
	}
	if g.bus.Conn().Stats().Reconnects != reconnects {
		return errors.New("the connection broke meanwhile")
	}
	return nil
}

// maxLine is more than any message may have.
const maxLine = 2 << 20

type line struct {
	number int // the first is 1
	text   []byte
}

// lines yields the lines of r that are not blank, until ctx ends.
func lines(ctx context.Context, r io.Reader) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		read, failed := make(chan line), make(chan error, 1)
		// It outlives the loop only while r has nothing to give, which no
		// reader of a terminal or a pipe can be told to end.
		last := 0
		go func() { failed <- scan(ctx, r, read) }()
		for {
			select {
			case l := <-read:
				last = l.number
				if !yield(l, nil) {
					return
				}
			case err := <-failed:
				if err != nil {
					yield(line{number: last + 1}, err)
				}
				return
			case <-ctx.Done():
				yield(line{number: last + 1}, errors.New("interrupted"))
				return
			}
		}
	}
}

// scan passes the lines of r on.
func scan(ctx context.Context, r io.Reader, to chan<- line) error {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	for n := 1; s.Scan(); n++ {
		text := bytes.TrimSpace(s.Bytes())
		if len(text) == 0 {
			continue
		}
		select {
		case to <- line{n, bytes.Clone(text)}:
		case <-ctx.Done():
			return nil
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("it is longer than %d bytes: no message may be", maxLine)
	}
	return s.Err()
}
