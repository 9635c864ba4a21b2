package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
)

// colorFlag says when output is coloured.
type colorFlag string

const (
	colorAuto   colorFlag = "auto"
	colorAlways colorFlag = "always"
	colorNever  colorFlag = "never"
)

// String implements pflag.Value.
func (f *colorFlag) String() string { return string(*f) }

// Type implements pflag.Value.
func (f *colorFlag) Type() string { return "when" }

// Set implements pflag.Value.
func (f *colorFlag) Set(s string) error {
	switch v := colorFlag(s); v {
	case colorAuto, colorAlways, colorNever:
		*f = v
		return nil
	}
	return errors.New("it is auto, always or never")
}

func (f *colorFlag) register(c *cobra.Command) {
	*f = colorAuto
	c.Flags().Var(f, "color", "colour the output: always, never, or on a terminal unless $NO_COLOR is set")
	complete(c, "color", "auto", "always", "never")
}

// on reports whether what is written to w is to be coloured (no-color.org).
func (f colorFlag) on(w any, env func(string) string) bool {
	if f != colorAuto {
		return f == colorAlways
	}
	return env("NO_COLOR") == "" && env("TERM") != "dumb" && isTerminal(w)
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// visible writes what could command a terminal, or reorder its line, in the form
// that JSON has for it: a message may come from anybody.
func visible(s string) string {
	hidden := func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
