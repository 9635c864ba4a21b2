// Package terminal has the commands that the examples' pages show: each pushes a
// message into a group when somebody pastes it into a terminal.
package terminal

import "strings"

// Command is one of them.
type Command struct {
	// Tool is what it is called on the page.
	Tool string

	// Line is the command, with {group} and {message} where they belong.
	Line string
}

// Commands returns those that work in a clone of the repository, with the NATS
// server at 127.0.0.1:4222.
func Commands() []Command {
	return []Command{
		{"tideway", "go run ./cmd/tideway send {group} {message}"},
		{"Python", "python3 examples/push/push.py {group} {message}"},
		{"bash", "bash examples/push/push.sh {group} {message}"},
		{"nats", "nats pub channels.grp.{group} {message}"},
	}
}

// For returns the line that pushes a JSON message into a group. The message holds
// no single quotes.
func (c Command) For(group, message string) string {
	return strings.NewReplacer("{group}", group, "{message}", "'"+message+"'").Replace(c.Line)
}
