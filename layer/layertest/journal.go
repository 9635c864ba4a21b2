package layertest

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// journal is a slog.Handler that keeps what is logged.
type journal struct {
	mu    sync.Mutex // guards lines
	lines []line
}

type line struct {
	level slog.Level
	text  string
	attrs map[string]slog.Value
}

func (j *journal) logger() *slog.Logger { return slog.New(j) }

// Enabled implements slog.Handler.
func (j *journal) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements slog.Handler; no row looks at such attributes.
func (j *journal) WithAttrs([]slog.Attr) slog.Handler { return j }

// WithGroup implements slog.Handler.
func (j *journal) WithGroup(string) slog.Handler { return j }

// Handle implements slog.Handler.
func (j *journal) Handle(_ context.Context, r slog.Record) error {
	l := line{r.Level, r.Message, map[string]slog.Value{}}
	r.Attrs(func(a slog.Attr) bool {
		l.attrs[a.Key] = a.Value
		return true
	})
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, l)
	return nil
}

// with returns the lines that have this text.
func (j *journal) with(text string) []line {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(j.lines), func(l line) bool { return l.text != text })
}
