package client

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
)

func TestGateKeepsTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{limit: 10}
		enter := func(ctx context.Context, n int) chan error {
			entered := make(chan error, 1)
			go func() { entered <- g.enter(ctx, n) }()
			synctest.Wait()
			return entered
		}
		inside := func(want int) {
			t.Helper()
			synctest.Wait()
			if got := g.count(); got != want {
				t.Fatalf("%d inside, want %d", got, want)
			}
		}
		impatient, cancel := context.WithCancel(t.Context())
		enter(t.Context(), 8)
		long := enter(t.Context(), 25)  // over the limit: waits for an empty gate
		fits := enter(t.Context(), 2)   // would fit, but stands behind it
		givesUp := enter(impatient, 10) // leaves the line
		last := enter(t.Context(), 8)
		inside(8)

		g.leave(8)
		inside(25)
		if err := <-long; err != nil {
			t.Errorf("the long one: %v", err)
		}
		g.leave(20)
		inside(7)
		if err := <-fits; err != nil {
			t.Errorf("the one behind it: %v", err)
		}
		g.leave(5)
		inside(2)
		cancel()
		inside(10)
		if err := <-givesUp; !errors.Is(err, context.Canceled) {
			t.Errorf("the one that gave up: %v, want Canceled", err)
		}
		if err := <-last; err != nil {
			t.Errorf("the one behind that: %v", err)
		}

		late := enter(t.Context(), 1)
		g.close()
		if err := <-late; !errors.Is(err, ErrClosed) {
			t.Errorf("the one in line at closing time: %v, want ErrClosed", err)
		}
		if err := g.enter(t.Context(), 1); !errors.Is(err, ErrClosed) {
			t.Errorf("after closing time: %v, want ErrClosed", err)
		}
		inside(10)
	})
}
