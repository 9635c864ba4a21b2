package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// sections returns the parts of the manual by their headings.
func sections(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/reference/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for _, part := range strings.Split(string(text), "\n## ")[1:] {
		heading, body, _ := strings.Cut(part, "\n")
		parts[heading] = body
	}
	return parts
}

var flagInTable = regexp.MustCompile("(?m)^\\| (?:`-(\\w)`, )?`--([\\w-]+)([^`]*)` \\|")

// documented returns the flags in a section's table as "-o --output form".
func documented(section string) []string {
	var flags []string
	for _, m := range flagInTable.FindAllStringSubmatch(section, -1) {
		flags = append(flags, m[1]+" "+m[2]+m[3])
	}
	slices.Sort(flags)
	return flags
}

// defined returns the flags of a set in the same form.
func defined(set *pflag.FlagSet) []string {
	var flags []string
	set.VisitAll(func(f *pflag.Flag) {
		if f.Name == "help" {
			return
		}
		value, _ := pflag.UnquoteUsage(f)
		if value != "" {
			value = " " + value
		}
		flags = append(flags, f.Shorthand+" "+f.Name+value)
	})
	slices.Sort(flags)
	return flags
}

// definedBelow returns the flags of a command and of those below it, which share
// a section.
func definedBelow(c *cobra.Command) []string {
	flags := defined(c.LocalFlags())
	for _, sub := range c.Commands() {
		if !sub.Hidden {
			flags = append(flags, defined(sub.LocalFlags())...)
		}
	}
	slices.Sort(flags)
	return slices.Compact(flags)
}

// docs/reference/cli.md says what the program says of itself: commands, usage,
// flags and examples.
func TestManualIsComplete(t *testing.T) {
	p := &program{env: noEnv}
	root, manual := p.command(), sections(t)
	if got, want := documented(manual["Flags of every command"]), defined(root.PersistentFlags()); !slices.Equal(got, want) {
		t.Errorf("flags of every command: the manual has %q, the program has %q", got, want)
	}
	delete(manual, "Flags of every command")
	for _, c := range root.Commands() {
		section, found := manual[c.CommandPath()]
		if !found {
			t.Errorf("the manual has no section %q", c.CommandPath())
			continue
		}
		delete(manual, c.CommandPath())
		checkSection(t, c, section)
	}
	for heading := range manual {
		t.Errorf("the manual has the section %q, the program has no such command", heading)
	}
}

func checkSection(t *testing.T, c *cobra.Command, section string) {
	t.Helper()
	if got, want := documented(section), definedBelow(c); !slices.Equal(got, want) {
		t.Errorf("%s: the manual has the flags %q, the program has %q", c.CommandPath(), got, want)
	}
	if usage := "\n    tideway " + c.Use; !strings.Contains(section, usage) {
		t.Errorf("%s: the manual does not show its usage: %s", c.CommandPath(), usage)
	}
	for line := range strings.Lines(c.Example) {
		if line = strings.TrimSpace(line); !strings.Contains(section, line) {
			t.Errorf("%s: the manual does not have its example %s", c.CommandPath(), line)
		}
	}
	if !strings.HasPrefix(strings.TrimSpace(c.Short), strings.ToUpper(c.Short[:1])) || strings.HasSuffix(c.Short, ".") {
		t.Errorf("%s: %q is no line of a list", c.CommandPath(), c.Short)
	}
}
