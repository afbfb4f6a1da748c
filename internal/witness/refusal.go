package witness

import (
	"fmt"
	"time"
)

// Reason is why a checkpoint was refused.
type Reason string

// Why a checkpoint is refused. After the first three the partition goes on: anyone who can publish to the stream could have put such a
// thing there, and the log's key has not said it. After the others it stays refused.
const (
	// Unsigned: it is no signed checkpoint, or not signed by the log's key, or its signature is wrong.
	Unsigned Reason = "unsigned"
	// Misplaced: it is signed, and was published as one of another partition.
	Misplaced Reason = "misplaced"
	// Missing: the stream of checkpoints has lost some that were not read yet, or was deleted and made again.
	Missing Reason = "missing"
	// OtherStream: it is of a stream of the same name that was made at another time, or the stream itself was made again.
	OtherStream Reason = "other_stream"
	// OutOfOrder: its size or sequence is not above that of the one before, which it does not repeat.
	OutOfOrder Reason = "out_of_order"
	// OtherHistory: its root, size or clock is not that of the messages that were read, or its sequence is behind the stream's end.
	OtherHistory Reason = "other_history"
)

// final tells whether a partition stays refused after it.
func (r Reason) final() bool {
	return r == OtherStream || r == OutOfOrder || r == OtherHistory
}

// Refusal is a checkpoint that was not cosigned, and why; as JSON it is the evidence that is kept of it.
type Refusal struct {
	At          time.Time `json:"at"` // UTC
	Stream      string    `json:"stream"`
	Partition   int       `json:"partition"` // -1: of none
	Reason      Reason    `json:"reason"`
	Explanation string    `json:"explanation"`
	Number      uint64    `json:"number"`     // sequence in the stream of checkpoints; 0: no checkpoint is at fault
	Checkpoint  string    `json:"checkpoint"` // as it was published
	Newest      string    `json:"newest"`     // the newest one of the partition that was cosigned; empty: none was
}

// Error says what is wrong.
func (r *Refusal) Error() string {
	where := ""
	if r.Partition >= 0 {
		where = fmt.Sprintf("partition %d of %s: ", r.Partition, r.Stream)
	}
	if r.Number > 0 {
		where += fmt.Sprintf("checkpoint %d: ", r.Number)
	}
	return where + r.Explanation
}

func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format(time.RFC3339Nano) }
