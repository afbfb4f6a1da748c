//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// takesEscapes tells whether a terminal acts on escape sequences.
func takesEscapes(*os.File) bool { return true }

// resizes returns a channel that gets something when the terminal's size has changed, until stop is called.
func resizes() (changed <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGWINCH)
	return c, func() { signal.Stop(c) }
}
