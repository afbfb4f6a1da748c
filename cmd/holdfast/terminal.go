package main

import (
	"io"
	"os"

	"golang.org/x/term"
)

// isTerminal tells whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// screen is where output for people goes: a terminal, or anything else.
type screen struct {
	out     io.Writer
	file    *os.File // nil: it is no terminal
	escapes bool     // it takes escape sequences
	color   bool     // and may be given colours
}

// newScreen returns the screen that out is, in an environment that says by TERM what it can do, and by NO_COLOR
// (https://no-color.org) what is not wanted.
func newScreen(out io.Writer, getenv func(string) string) *screen {
	s := &screen{out: out}
	if isTerminal(out) {
		s.file = out.(*os.File)
		s.escapes = getenv("TERM") != "dumb" && takesEscapes(s.file)
		s.color = s.escapes && getenv("NO_COLOR") == ""
	}
	return s
}

// size returns how many columns and lines there are; 0 = as many as one likes.
func (s *screen) size() (width, height int) {
	if s.file == nil {
		return 0, 0
	}
	width, height, err := term.GetSize(int(s.file.Fd()))
	if err != nil {
		return 0, 0
	}
	return width, height
}

// text returns a line as the screen takes it, without an end of line.
func (s *screen) text(l line, width int) string {
	text := fit(l.text, width)
	if s.color && l.style != plain {
		return "\x1b[" + string(l.style) + "m" + text + "\x1b[m"
	}
	return text
}
