package generate

import (
	"context"
	"time"
)

const (
	// maxRate is the most events a second that can be asked for.
	maxRate = 1e9
	// tick is how often events are sent at a rate.
	tick = 5 * time.Millisecond
)

// pace says how many events may be made by now.
type pace struct {
	rate  float64 // a second; 0 = any
	began time.Time
	made  int64
}

func newPace(rate float64) *pace { return &pace{rate: rate, began: time.Now()} }

// wait waits until an event may be made, or ctx ends, and returns how many may, at most so many; 0 if ctx has ended.
func (p *pace) wait(ctx context.Context, most int) int {
	if p.rate == 0 {
		return most
	}
	for ctx.Err() == nil {
		if due := int64(time.Since(p.began).Seconds()*p.rate) - p.made; due > 0 {
			n := min(due, int64(most))
			p.made += n
			return int(n)
		}
		// At a low rate the next event is far off.
		pause := max(tick, time.Until(p.began.Add(time.Duration(float64(p.made+1)/p.rate*float64(time.Second)))))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
	return 0
}
