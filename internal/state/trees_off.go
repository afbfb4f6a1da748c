//go:build untreed

package state

const (
	treed        = false
	codecVersion = 1003 // no other form reads it
)
