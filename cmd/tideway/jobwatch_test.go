package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tideway-go/tideway/consumer/job"
)

// rollout is the events of a job with so many targets, of which some ended.
func rollout(targets, ended int) []job.Event {
	s := &job.Submission{ID: "abc", Kind: "update", Attempts: 5}
	for i := range targets {
		s.Targets = append(s.Targets, fmt.Sprintf("server-%02d", i))
	}
	all := []job.Event{{Event: job.Queued, Job: s, By: "ann"}, {Event: job.Started, Attempt: 1, Worker: "w"}}
	for i, t := range s.Targets[:ended] {
		state := job.StateSucceeded
		if i%5 == 4 {
			state = job.StateFailed
		}
		all = append(all, job.Event{Event: job.Targeted, Attempt: 1, Target: t, State: job.StateRunning},
			job.Event{Event: job.Progressed, Attempt: 1, Target: t, Done: 1, Total: 2},
			job.Event{Event: job.Targeted, Attempt: 1, Target: t, State: state})
	}
	return all
}

func TestBoard(t *testing.T) {
	for _, c := range []struct {
		targets, ended int
		want           []string // among the lines
		lines          int
	}{
		{0, 0, []string{"abc                          ░░░░░░░░░░░░░░░░░░░░░░░░ running"}, 1},
		{4, 2, []string{
			"abc                          ████████████░░░░░░░░░░░░ running",
			"  server-01                    ████████████████████████ succeeded",
			"  server-02                    ░░░░░░░░░░░░░░░░░░░░░░░░ ",
		}, 5},
		{40, 25, []string{"  server-04                    ████████████░░░░░░░░░░░░ failed", "  server-39                    ░░░░░░░░░░░░░░░░░░░░░░░░ "}, 21},
		{40, 0, []string{"  … 20 more"}, 22},
	} {
		s := job.Fold(rollout(c.targets, c.ended))
		lines := drawBoard(&s)
		if len(lines) != c.lines {
			t.Errorf("%d targets: got %d lines, want %d:\n%s", c.targets, len(lines), c.lines, strings.Join(lines, "\n"))
		}
		for _, want := range c.want {
			if !strings.Contains("\n"+strings.Join(lines, "\n")+"\n", "\n"+want+"\n") {
				t.Errorf("%d targets: there is no line %q:\n%s", c.targets, want, strings.Join(lines, "\n"))
			}
		}
		for _, l := range lines {
			if n := utf8.RuneCountInString(l); n > boardWidth+2 {
				t.Errorf("a line of %d columns: %q", n, l)
			}
		}
	}
}

// What is drawn anew takes the place of what was drawn before, below the log.
func TestBoardIsDrawnInPlace(t *testing.T) {
	var out bytes.Buffer
	b := &board{w: &out}
	var f job.Folder
	for _, e := range append(rollout(1, 0), job.Event{Event: job.Logged, Attempt: 1, Text: "bell \a"}, job.Event{Event: job.Ended, Attempt: 1, State: job.StateSucceeded}) {
		f.Add(e)
		if err := b.show(e, f.Status()); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := strings.Count(out.String(), "\x1b[2A\x1b[J"), 3; got != want {
		t.Errorf("drawn anew %d times, want %d: %q", got, want, out.String())
	}
	if !strings.Contains(out.String(), `bell \u0007`) {
		t.Errorf("what commands a terminal is not made visible: %q", out.String())
	}
}
