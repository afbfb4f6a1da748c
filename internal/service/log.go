package service

import (
	"io"
	"log/slog"
)

// LogFlags are the flags of logging, to be embedded in a command's flags.
type LogFlags struct {
	// LogLevel is the least severe level that is logged: debug, info (the default), warn or error.
	LogLevel string `help:"Least severe messages to log: debug, info, warn or error." enum:"debug,info,warn,error" default:"info" group:"Logging:"`
	// LogFormat is json (the default), one object a line, or text, key=value.
	LogFormat string `help:"Form of the log: json (one object a line) or text (key=value)." enum:"json,text" default:"json" group:"Logging:"`
}

// Logger returns a logger that writes to w (stderr, in a service) as the flags say. The flags must have been through
// [Parse]; a level that is none of the four counts as info.
func (f LogFlags) Logger(w io.Writer) *slog.Logger {
	var level slog.Level // info
	switch f.LogLevel {
	case "debug":
		level = slog.LevelDebug
	case "warn":
		level = slog.LevelWarn
	case "error":
		level = slog.LevelError
	}
	options := &slog.HandlerOptions{Level: level}
	if f.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
