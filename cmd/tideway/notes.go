package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// noteHandler turns the library's log into notes: one line each, without time
// and level.
type noteHandler struct {
	program *program
	level   slog.Level
}

var _ slog.Handler = (*noteHandler)(nil)

// Enabled implements slog.Handler.
func (h *noteHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

// Handle implements slog.Handler.
func (h *noteHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(withoutPackages(r.Message))
	r.Attrs(func(a slog.Attr) bool {
		if a.Key != "process" && a.Value.Any() != nil { // which is this program
			fmt.Fprintf(&b, ", %s: %s", a.Key, withoutPackages(strings.ReplaceAll(a.Value.String(), "\n", "; ")))
		}
		return true
	})
	h.program.note("%s", b.String())
	return nil
}

// WithAttrs implements slog.Handler. What the library adds to its loggers is
// for a site's log.
func (h *noteHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup implements slog.Handler.
func (h *noteHandler) WithGroup(string) slog.Handler { return h }
