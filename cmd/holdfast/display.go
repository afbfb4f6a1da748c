package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	// enterScreen goes to the terminal's other screen, so that what was on this one comes back, and hides the cursor.
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	toTop       = "\x1b[H"
	clearRight  = "\x1b[K"
	clearBelow  = "\x1b[J"

	// frameTimeout bounds the wait for what a frame shows.
	frameTimeout = 5 * time.Second
)

// print writes lines, each cut to the terminal's width.
func (s *screen) print(lines []line) error {
	width, _ := s.size()
	var b bytes.Buffer
	for _, l := range lines {
		b.WriteString(s.text(l, width) + "\n")
	}
	_, err := s.out.Write(b.Bytes())
	return err
}

// watch shows a frame, and then another one every so often until ctx ends: on a terminal in place, elsewhere one after the
// other. The first frame must succeed; if a later one fails, that is said, and the last one stays.
func (s *screen) watch(ctx context.Context, stderr io.Writer, every time.Duration, frame func(context.Context) ([]line, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	lines, err := within(ctx, frame)
	if err != nil {
		return err
	}
	var changed <-chan os.Signal
	if s.escapes {
		var stop func()
		changed, stop = resizes()
		defer stop()
		if _, err := io.WriteString(s.out, enterScreen); err != nil {
			return err
		}
		defer func() { _, _ = io.WriteString(s.out, leaveScreen) }() // it fails only if the terminal is gone
	}
	answered := time.Now()
	for ctx.Err() == nil {
		if failed := s.show(stderr, lines, err, time.Since(answered)); failed != nil {
			return failed
		}
		select {
		case <-changed:
			continue
		case <-tick.C:
		case <-ctx.Done():
			continue
		}
		var next []line
		if next, err = within(ctx, frame); err == nil {
			lines, answered = next, time.Now()
		}
	}
	return nil
}

// within asks for a frame, for a bounded time.
func within(ctx context.Context, frame func(context.Context) ([]line, error)) ([]line, error) {
	ctx, cancel := context.WithTimeout(ctx, frameTimeout)
	defer cancel()
	return frame(ctx)
}

// show shows a frame; or, because of trouble, an old one.
func (s *screen) show(stderr io.Writer, lines []line, trouble error, old time.Duration) error {
	switch {
	case s.escapes && trouble != nil:
		said := line{text: escaped(fmt.Sprintf("no answer for %s: %v", old.Round(time.Second), trouble)), style: warning}
		return s.redraw(append([]line{said}, lines...))
	case s.escapes:
		return s.redraw(lines)
	case trouble != nil:
		_, err := fmt.Fprintln(stderr, "holdfast:", trouble)
		return err
	default:
		return s.print(lines)
	}
}

// redraw shows lines from the terminal's top on, as many as there is room for.
func (s *screen) redraw(lines []line) error {
	width, height := s.size()
	for len(lines) > 0 && lines[len(lines)-1] == (line{}) { // which sets frames apart where they follow each other
		lines = lines[:len(lines)-1]
	}
	if more := len(lines) - height; height > 0 && more > 0 {
		shown := lines[: height-1 : height-1]
		lines = append(shown, line{text: fmt.Sprintf("… %d more lines", more+1)})
	}
	b := bytes.NewBufferString(toTop)
	for i, l := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(clearRight + s.text(l, width)) // the other way round, terminals that stay on their last column would clear it
	}
	b.WriteString(clearBelow)
	_, err := s.out.Write(b.Bytes())
	return err
}
