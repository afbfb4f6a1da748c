//go:build !untreed

package state

// treed says that partitions have trees. Without them (build tag untreed) a slot is identified by a hash of its bytes, and messages by
// nothing: bench/trees measures by that what trees cost. What one form has stored the other cannot use.
const treed = true
