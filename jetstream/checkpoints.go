package jetstream

import (
	"context"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Checkpoints is the stream of signed checkpoints: what aggregators have said of the partitions that they serve. Nothing in it
// can be deleted or purged.
const Checkpoints = "CHECKPOINTS"

const checkpointPrefix = "checkpoint"

// CheckpointSubject returns the subject of the signed checkpoints of a partition of a log.
func CheckpointSubject(log Log, partition int) string {
	return checkpointPrefix + "." + log.Stream + "." + strconv.Itoa(partition)
}

// LastCheckpoint returns the newest signed checkpoint of a partition of a log, as the leader has it, or ErrSequenceNotFound if
// there is none.
func (c *Client) LastCheckpoint(ctx context.Context, log Log, partition int) (Message, error) {
	m, err := c.message(ctx, Checkpoints, messageRequest{LastBySubject: CheckpointSubject(log, partition)})
	if err != nil {
		return Message{}, fmt.Errorf("read the last signed checkpoint of partition %d of %s: %w", partition, log.Stream, err)
	}
	return m, nil
}

// PublishCheckpoint stores a signed checkpoint of a partition of a log and returns its sequence, or ErrConflict if
// last is not the sequence of the partition's newest one; 0 expects that there is none. So a writer that was overtaken by another
// stores nothing behind that one's.
func (c *Client) PublishCheckpoint(ctx context.Context, log Log, partition int, signed []byte, last uint64) (uint64, error) {
	m := nats.NewMsg(CheckpointSubject(log, partition))
	m.Data = signed
	expect(m, last)
	ack, err := c.publish(ctx, m)
	if err != nil {
		return 0, fmt.Errorf("publish the signed checkpoint of partition %d of %s: %w", partition, log.Stream, c.leaderless(ctx, Checkpoints, err))
	}
	return ack.Sequence, nil
}

// checkpointsConfig declares the stream of signed checkpoints. They are evidence.
func checkpointsConfig() jetstream.StreamConfig {
	s := baseConfig(Checkpoints)
	s.Subjects = []string{checkpointPrefix + ".>"}
	s.DenyDelete = true
	s.DenyPurge = true
	return s
}
