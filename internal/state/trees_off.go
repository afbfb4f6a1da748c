//go:build untreed

package state

const treed = false
