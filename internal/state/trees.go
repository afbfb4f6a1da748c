//go:build !untreed

package state

// treed says that partitions have trees. Without them (build tag untreed) a slot is identified by a hash of its bytes, and messages by
// nothing: bench/trees measures by that what trees cost. What one form has stored the other cannot use.
const treed = true

// codecVersion is the version of the encoding of slots and checkpoints that this package writes, and the only one that it reads.
const codecVersion = 3
