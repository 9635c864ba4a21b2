package natsbus

import (
	"context"
	"fmt"
	"log/slog"
)

// serverLogger is nats-server's logger on slog. The server's notices are
// debug messages here: a library that starts is silent.
type serverLogger struct {
	log   *slog.Logger
	debug bool
	fatal chan string // the first fatal message; the server goes on after it
}

func newServerLogger(log *slog.Logger) *serverLogger {
	// The server's own debug messages would drown the program's.
	const serverDebug = slog.LevelDebug - 4
	return &serverLogger{
		log:   log.With("component", "nats-server"),
		debug: log.Enabled(context.Background(), serverDebug),
		fatal: make(chan string, 1),
	}
}

func (l *serverLogger) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }
func (l *serverLogger) Warnf(format string, v ...any)   { l.write(slog.LevelWarn, format, v) }
func (l *serverLogger) Errorf(format string, v ...any)  { l.write(slog.LevelError, format, v) }
func (l *serverLogger) Debugf(format string, v ...any)  { l.write(slog.LevelDebug-4, format, v) }
func (l *serverLogger) Tracef(format string, v ...any)  { l.write(slog.LevelDebug-8, format, v) }

func (l *serverLogger) Fatalf(format string, v ...any) {
	l.write(slog.LevelError, format, v)
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}

func (l *serverLogger) write(level slog.Level, format string, v []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, fmt.Sprintf(format, v...))
	}
}
