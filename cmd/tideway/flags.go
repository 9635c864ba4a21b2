package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
)

// outputFlag is the form in which a command prints data.
type outputFlag string

const (
	outputText outputFlag = "text"
	outputJSON outputFlag = "json"
)

// String implements pflag.Value.
func (o *outputFlag) String() string { return string(*o) }

// Type implements pflag.Value.
func (o *outputFlag) Type() string { return "form" }

// Set implements pflag.Value.
func (o *outputFlag) Set(s string) error {
	switch v := outputFlag(s); v {
	case outputText, outputJSON:
		*o = v
		return nil
	}
	return fmt.Errorf("it is text or json")
}

// levelFlag is the least level of a log.
type levelFlag slog.Level

// String implements pflag.Value.
func (l *levelFlag) String() string { return strings.ToLower(slog.Level(*l).String()) }

// Type implements pflag.Value.
func (l *levelFlag) Type() string { return "level" }

// Set implements pflag.Value.
func (l *levelFlag) Set(s string) error {
	if (*slog.Level)(l).UnmarshalText([]byte(s)) != nil {
		return fmt.Errorf("it is debug, info, warn or error")
	}
	return nil
}

func (o *outputFlag) register(c *cobra.Command) {
	*o = outputText
	c.Flags().VarP(o, "output", "o", "text or json")
	complete(c, "output", "text", "json")
}

// complete gives the shells the values of a flag.
func complete(c *cobra.Command, flag string, values ...string) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // there is no such flag
	}
}

// noArgs is for commands that take flags alone.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%q is one argument too many", args[0])
	}
	return nil
}
