package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
)

// serverLog carries the NATS server's log lines to slog. The server calls it
// from many goroutines.
type serverLog struct {
	logger *slog.Logger
	fatal  chan string // the first fatal line: what Start reports
}

func newServerLog(logger *slog.Logger) *serverLog {
	return &serverLog{logger: logger, fatal: make(chan string, 1)}
}

func (l *serverLog) write(level slog.Level, format string, v []any) {
	ctx := context.Background()
	if !l.logger.Enabled(ctx, level) {
		return
	}
	l.logger.Log(ctx, level, strings.TrimSpace(fmt.Sprintf(format, v...)))
}

// Noticef takes what a server by itself would print while all is well.
func (l *serverLog) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Warnf takes a warning.
func (l *serverLog) Warnf(format string, v ...any) { l.write(slog.LevelWarn, format, v) }

// Errorf takes an error.
func (l *serverLog) Errorf(format string, v ...any) { l.write(slog.LevelError, format, v) }

// Fatalf takes the error after which a server by itself would exit. An
// embedded one must not take the process with it: Start returns the line.
func (l *serverLog) Fatalf(format string, v ...any) {
	l.write(slog.LevelError, format, v)
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default:
	}
}

// Debugf takes detail.
func (l *serverLog) Debugf(format string, v ...any) { l.write(slog.LevelDebug, format, v) }

// Tracef would take every protocol line; tracing is never switched on.
func (l *serverLog) Tracef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }
