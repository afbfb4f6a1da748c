// Package state is the fold of a partition as it is kept: slots, a checkpoint, how they are encoded, how a
// flush is prepared and how a partition is loaded again.
//
// A [Partition] is fed the messages of its partition in the order of the stream. Its state is a function of
// those and of nothing else. It lies in 256 slots, each with the holders (or nodes) whose ids hash there, and in a
// checkpoint: the stream sequence that everything is folded through, the clock, the producers' numbers, what
// was refused before it reached a slot, and each slot's sequence and digest.
//
//	message ──► Fold ──► slots, checkpoint ──► Prepare ──► one atomic batch: changed slots, then the checkpoint
//	   ▲                                                                            │
//	   └── from the checkpoint's sequence on ◄── Load ◄──────────────────────────────┘
//
// # What a crash means
//
// A batch is stored whole or not at all, and the checkpoint's revision lets one writer win. Before a batch is
// stored, a crash loses nothing: the messages behind the old checkpoint are folded again. After it, they are
// not. Should a failing disk store the first part of a batch, some slots are newer than the checkpoint: each
// knows the sequence that it is folded through, and skips what it has. That is why everything that decides about
// an event lies either in its slot or in the checkpoint, never in another slot: a producer's numbers are
// those of the checkpoint, so the same messages are taken and skipped again as before.
package state

import (
	"errors"
	"fmt"
)

// Errors of loading. Each leaves the partition alone: going on is for the operator to say.
var (
	// ErrDamaged: what is in the bucket is not what was written there: bytes that do not decode, a slot
	// that is older than the checkpoint lists or differs from its digest.
	ErrDamaged = errors.New("the stored state is damaged")
	// ErrForeign: the state was folded from another stream, another partition, or under another policy.
	ErrForeign = errors.New("the stored state belongs to something else")
)

func damaged(key, format string, args ...any) error {
	return fmt.Errorf("%s: %w: %s", key, ErrDamaged, fmt.Sprintf(format, args...))
}
