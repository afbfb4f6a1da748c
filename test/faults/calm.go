package main

import (
	"sync"
	"time"
)

// recovery is how long after a fault of a server it may still be that which keeps a partition from moving: elections, and what a
// server that is back has to catch up on.
const recovery = 10 * time.Second

// calm knows since when no server has been broken.
type calm struct {
	mu     sync.Mutex
	broken int       // how many faults of servers are under way; guarded by mu
	since  time.Time // when the last one was over and its traces with it; guarded by mu
}

// disturb says that a fault of a server begins; what it returns is to be called when it is mended.
func (c *calm) disturb() (mended func(now time.Time)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken++
	return func(now time.Time) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.broken--
		c.since = now.Add(recovery)
	}
}

// from tells whether no server has been broken, nor been recovering, from then on.
func (c *calm) from(then time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken == 0 && !then.Before(c.since)
}
