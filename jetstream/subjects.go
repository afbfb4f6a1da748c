package jetstream

import "strconv"

const (
	// Partitions is the number of partitions of a log. The server computes an
	// event's partition as FNV-1a (32 bits) of the subject's last token, modulo
	// Partitions; it is fixed when the stream is made.
	Partitions = 16

	// Slots is the number of slots that a partition's state is spread over.
	Slots = 256

	// MaxMessage is the largest message of any stream, in bytes, its headers
	// included. It equals a NATS server's default max_payload.
	MaxMessage = 1 << 20

	// MaxBatch is the largest number of messages in one atomic batch.
	MaxBatch = 1000
)

// Log names what belongs to one kind of proof.
type Log struct {
	Stream string // the stream of its events
	Bucket string // the bucket of their fold
	Prefix string // the first token of its subjects
}

// The logs.
var (
	// Holds is the log of holds, releases and balances, partitioned by holder.
	Holds = Log{Stream: "HOLDS", Bucket: "HOLDS_STATE", Prefix: "hold"}

	// PoH is the log of Proof of History events, partitioned by node.
	PoH = Log{Stream: "POH", Bucket: "POH_STATE", Prefix: "poh"}
)

const (
	// Rejected is the stream of refused events.
	Rejected = "REJECTED"

	// Producers is the bucket in which producers claim their names. Its keys
	// may have a time to live.
	Producers = "PRODUCERS"

	// Workers is the bucket in which aggregators say that they are there and
	// hold their leases of partitions. Its keys have a time to live.
	Workers = "WORKERS"

	// Retries is the bucket that records which rejections were sent again, and
	// under which number.
	Retries = "RETRIES"

	rejectedPrefix = "rejected"
)

// Logs returns all logs, in a fixed order.
func Logs() []Log { return []Log{Holds, PoH} }

// Subject returns the subject on which a single event of that holder or node is
// published. The id must be encoded as one subject token: no dot, wildcard,
// blank, and not empty.
func (l Log) Subject(encodedID string) string { return l.Prefix + "." + encodedID }

// PartitionSubject returns the subject of a partition, 0 to Partitions-1. A
// partition's messages are stored under it, and a batch of one partition's
// events is published to it.
func (l Log) PartitionSubject(partition int) string {
	return l.Prefix + ".p." + strconv.Itoa(partition)
}

// SlotKey returns the key of a slot's state: 0 ≤ partition < Partitions,
// 0 ≤ slot < Slots.
func SlotKey(partition, slot int) string {
	return "s." + strconv.Itoa(partition) + "." + strconv.Itoa(slot)
}

// SlotKeys returns the filter that matches all slots of a partition, for Load
// and Watch.
func SlotKeys(partition int) string { return "s." + strconv.Itoa(partition) + ".*" }

// CheckpointKey returns the key of a partition's checkpoint.
func CheckpointKey(partition int) string { return "c." + strconv.Itoa(partition) }

// AllKeys is the filter that matches every key of a bucket.
const AllKeys = ">"

// bucketStream names the stream that a bucket is kept in, as every NATS
// key-value client does.
func bucketStream(bucket string) string { return "KV_" + bucket }
