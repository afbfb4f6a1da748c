//go:build race

package aggregate

// raced says that the race detector is on, which has nothing to find in what runs in one goroutine, and takes ten times as long.
const raced = true
