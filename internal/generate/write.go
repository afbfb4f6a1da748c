package generate

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// WriteOptions configure a Write.
type WriteOptions struct {
	Options         // of what is made, all of them
	Rate    float64 // how many events are written a second; 0 = as many as are taken
	// Limit is how long it may take; 0 = until all events are written.
	Limit time.Duration
	// Book is told what the events come to; nil = there is none.
	Book Book
	// Progress is told how many events are written; nil = nobody is.
	Progress func(done int64)
}

// Write writes what a generator makes: as CSV with its header if the options are Plain, else as NDJSON. It ends early, after a whole
// line, when ctx ends, with its cause, or when the limit is reached, without an error. The caller has made sure that no event lies
// ahead of its time; see [Options.Ahead].
func Write(ctx context.Context, w io.Writer, o WriteOptions) (Result, error) {
	if err := (&RunOptions{Rate: o.Rate, Limit: o.Limit}).checkPace(); err != nil {
		return Result{}, err
	}
	g, err := New(o.Options, o.Book)
	if err != nil {
		return Result{}, err
	}
	if o.Limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.Limit, errLimit)
		defer cancel()
	}
	err = o.write(ctx, bufio.NewWriterSize(w, 64<<10), g)
	if err == nil && g.Made() < o.Events && !errors.Is(context.Cause(ctx), errLimit) {
		err = context.Cause(ctx)
	}
	return Result{Options: o.Options, Done: g.Made(), Made: g.Made(), Counts: g.Counts()}, err
}

func (o *WriteOptions) write(ctx context.Context, w *bufio.Writer, g *Generator) error {
	line := AppendJSON
	if o.Plain {
		line = AppendCSV
		fmt.Fprintln(w, CSVHeader) // a failure shows when it is flushed
	}
	pace := newPace(o.Rate)
	var b []byte
	for more := true; more; {
		n := pace.wait(ctx, sendEvents)
		if ctx.Err() != nil {
			break
		}
		b = b[:0]
		for i := 0; i < n && more; i++ {
			var e Event
			if e, more = g.Next(); more {
				b = line(b, e)
			}
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		if o.Rate > 0 {
			if err := w.Flush(); err != nil {
				return err
			}
		}
		if o.Progress != nil {
			o.Progress(g.Made())
		}
	}
	return w.Flush()
}
