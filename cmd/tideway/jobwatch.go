package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/tideway-go/tideway/consumer/job"
	"github.com/tideway-go/tideway/layer"
)

// watchJob shows a job until its end. Its error is the job's verdict, if that is
// not that it succeeded.
func (p *program) watchJob(ctx context.Context, l *layer.Layer, id string, form outputFlag) error {
	var v view = &eventLines{p.stdout}
	switch {
	case form == outputJSON:
		v = &objects{json.NewEncoder(p.stdout)}
	case colorAuto.on(p.stdout, func(string) string { return "" }) && p.env("TERM") != "dumb":
		v = &board{w: p.stdout}
	}
	var all job.Folder
	for e, err := range job.Watch(ctx, l, id, layer.Position{}) {
		if err != nil {
			return err
		}
		all.Add(e)
		if err := v.show(e, all.Status()); err != nil {
			return err
		}
	}
	s := all.Status()
	if s.State == job.StateSucceeded {
		return nil
	}
	if s.Error == "" {
		return fmt.Errorf("the job is %s", s.State)
	}
	return fmt.Errorf("the job is %s: %s", s.State, visible(s.Error))
}

// view is a way to show a job.
type view interface {
	show(job.Event, *job.Status) error
}

// objects shows events as they are.
type objects struct{ out *json.Encoder }

func (o *objects) show(e job.Event, _ *job.Status) error { return o.out.Encode(e) }

// eventLines shows a line for each event.
type eventLines struct{ w io.Writer }

func (o *eventLines) show(e job.Event, _ *job.Status) error {
	text := inWords(&e)
	if text == "" {
		return nil
	}
	_, err := fmt.Fprintf(o.w, "%s  %s\n", e.At.Local().Format(time.TimeOnly), text)
	return err
}

// inWords says what an event is about, "" for what is not for people.
func inWords(e *job.Event) string {
	about := ""
	if e.Target != "" {
		about = visible(e.Target) + ": "
	}
	switch e.Event {
	case job.Queued:
		return "queued" + by(e.By)
	case job.Started:
		return fmt.Sprintf("attempt %d, by %s", e.Attempt, visible(e.Worker))
	case job.Logged:
		return about + visible(e.Text)
	case job.Progressed:
		return fmt.Sprintf("%s%d of %d", about, e.Done, e.Total)
	case job.Targeted, job.Ended:
		return about + string(e.State) + because(e.Error) + by(e.By)
	case job.Retrying:
		return "the attempt failed" + because(e.Error) + ", another follows"
	case job.Released:
		return "the worker stops and hands the job back"
	case job.Requeued:
		return "nothing was heard of it, so it is in the queue again"
	case job.Cancelling:
		return "is being cancelled" + by(e.By)
	case job.Retried:
		return "retried as " + visible(e.Next) + by(e.By)
	}
	return ""
}

func by(name string) string {
	if name == "" {
		return ""
	}
	return " by " + visible(name)
}

func because(text string) string {
	if text == "" {
		return ""
	}
	return ": " + visible(text)
}

// board draws a bar for each target, below the lines of the log.
type board struct {
	w     io.Writer
	drawn int // lines
	at    time.Time
}

const (
	boardWidth = 78
	boardLines = 20 // bars at most: what has ended is left out first
	barWidth   = 24
	drawEvery  = 60 * time.Millisecond
)

func (b *board) show(e job.Event, s *job.Status) error {
	var out strings.Builder
	line := ""
	switch e.Event {
	case job.Progressed, job.Checkpoint, job.Alive:
	case job.Targeted:
		if e.State == job.StateFailed {
			line = inWords(&e)
		}
	default:
		line = inWords(&e)
	}
	if line == "" && !s.State.Terminal() && time.Since(b.at) < drawEvery {
		return nil
	}
	if b.drawn > 0 {
		fmt.Fprintf(&out, "\x1b[%dA\x1b[J", b.drawn)
	}
	if line != "" {
		fmt.Fprintf(&out, "%s  %s\n", e.At.Local().Format(time.TimeOnly), line)
	}
	bars := drawBoard(s)
	b.drawn, b.at = len(bars), time.Now()
	for _, l := range bars {
		out.WriteString(l + "\n")
	}
	_, err := io.WriteString(b.w, out.String())
	return err
}

// drawBoard returns a line for the job and one for each target.
func drawBoard(s *job.Status) []string {
	all := []string{row(s.ID, string(s.State), s.Done, s.Total)}
	ended := 0
	for _, t := range s.Progress {
		if t.State == job.StateSucceeded {
			ended++
		}
	}
	hide := max(0, len(s.Progress)-boardLines)
	for _, t := range s.Progress {
		if t.State == job.StateSucceeded && hide > 0 {
			hide--
			continue
		}
		if len(all) > boardLines {
			all = append(all, fmt.Sprintf("  … %d more", len(s.Progress)-ended-boardLines))
			break
		}
		done, total := t.Done, t.Total
		if t.State == job.StateSucceeded {
			done, total = 1, 1
		}
		all = append(all, "  "+row(t.Name, string(t.State), done, total))
	}
	return all
}

// row is a name, a bar and a state.
func row(name, state string, done, total int64) string {
	full := 0
	if total > 0 {
		full = int(min(max(done, 0), total) * barWidth / total)
	}
	bar := strings.Repeat("█", full) + strings.Repeat("░", barWidth-full)
	text := []rune(fmt.Sprintf("%-28s %s %s", short(visible(name), 28), bar, state))
	return string(text[:min(len(text), boardWidth)])
}

func short(s string, most int) string {
	r := []rune(s)
	if len(r) <= most {
		return s
	}
	return string(r[:most-1]) + "…"
}
