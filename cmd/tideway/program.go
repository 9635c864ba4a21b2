package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// program is one run of tideway.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) string
	server         serverFlags
	started        bool // the command line made sense to cobra
}

// command returns the tree of commands.
func (p *program) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "tideway",
		Short: "Push messages into browsers, from anywhere",
		Long: `Tideway carries messages between processes and browsers: consumers serve
WebSocket connections and join groups, and any process sends to a group.

Data goes to stdout, notes go to stderr. The exit status is 0, or 1 when a
command failed, or 2 when its command line makes no sense.`,
		Example: `  tideway demo
  tideway send chat.lobby '{"type":"chat.message","user":"script","text":"hello"}'
  tideway tail chat.lobby`,
		Args:                       cobra.ArbitraryArgs, // noCommand knows better
		DisableFlagsInUseLine:      true,
		SilenceUsage:               true,
		SilenceErrors:              true,
		SuggestionsMinimumDistance: 2,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRun:           func(*cobra.Command, []string) { p.started = true },
		RunE:                       p.noCommand,
	}
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	// What only has commands below it is no line of its own.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	p.server.register(root.PersistentFlags())
	root.AddCommand(p.demoCommand(), p.sendCommand(), p.tailCommand(), p.historyCommand(), p.membersCommand(), p.kickCommand(), p.jobCommand(), p.queueCommand(), p.deadCommand(), p.benchCommand(), p.versionCommand(), p.completionCommand())
	return root
}

// noCommand says what is wrong with a command line that names no command of ours.
func (p *program) noCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		fmt.Fprintln(p.stderr, root.UsageString())
		return usagef("no command is given")
	}
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef("there is no command %q; did you mean %q?", args[0], near[0])
	}
	return usagef("there is no command %q", args[0])
}

// usageError says what is wrong with a command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, a ...any) error { return &usageError{fmt.Sprintf(format, a...)} }

// report prints the error of a command as one line, and returns the exit status.
func (p *program) report(cmd *cobra.Command, err error) int {
	text := withoutPackages(strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "))
	var usage *usageError
	if p.started && !errors.As(err, &usage) {
		p.note("%s", text)
		return 1
	}
	p.note("%s; see %q", text, cmd.CommandPath()+" --help")
	return 2
}

// withoutPackages takes the names of packages out of the library's errors: they
// help somebody who reads the code.
func withoutPackages(text string) string {
	return strings.NewReplacer("layer: ", "", "job: ", "", "natsbus: ", "", "router: ", "", "fleet: ", "", "gameserver: ", "").Replace(text)
}

// note prints a line for the human at the terminal.
func (p *program) note(format string, a ...any) {
	fmt.Fprintf(p.stderr, "tideway: "+format+"\n", a...)
}
