package audit

import (
	"context"
	"fmt"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/jetstream"
)

// Newest is the newest signed checkpoint of a partition.
type Newest struct {
	Number uint64 // in the stream CHECKPOINTS; 0: there is none
	Note   []byte
	Passed string // what stands behind it and was passed over, and why; empty: nothing
}

// NewestCheckpoint returns the newest of the signed checkpoints that stand in CHECKPOINTS as those of a partition: the one of the highest sequence, of
// the present stream and, if key is not nil, signed by it. Where it stands says nothing, since whoever may publish can publish an old one again, or what
// is none. The error is jetstream.ErrNoStream if there is no such stream, and else the client's.
func NewestCheckpoint(ctx context.Context, c *jetstream.Client, log jetstream.Log, partition int, key *attest.Key) (*Newest, error) {
	now, err := c.StreamState(ctx, log)
	if err != nil {
		return nil, err
	}
	subject, created := jetstream.CheckpointSubject(log, partition), now.Created.UnixNano()
	newest, sequence, passed := &Newest{}, uint64(0), 0
	_, err = ReadCheckpoints(ctx, c, 0, func(m jetstream.Message) error {
		if m.Subject != subject {
			return nil
		}
		st, err := openOrRead(key, m.Data)
		switch {
		case err != nil:
		case st.Stream != log.Stream || st.Partition != partition:
			err = fmt.Errorf("it is of partition %d of %s", st.Partition, st.Stream)
		case st.Created != created:
			err = fmt.Errorf("it is of a stream %s that was made at another time", st.Stream)
		case st.Sequence < sequence:
			err = fmt.Errorf("it is of sequence %d, and checkpoint %d of %d", st.Sequence, newest.Number, sequence)
		default:
			*newest, sequence, passed = Newest{Number: m.Sequence, Note: m.Data}, st.Sequence, 0
			return nil
		}
		if passed++; passed == 1 {
			newest.Passed = fmt.Sprintf("checkpoint %d was passed over: %v", m.Sequence, err)
		}
		return nil
	})
	if passed > 1 {
		newest.Passed += fmt.Sprintf("; and so were %d more", passed-1)
	}
	return newest, err
}

// openOrRead returns the statement of a checkpoint that a key has signed, or without a key of any.
func openOrRead(key *attest.Key, note []byte) (*attest.Statement, error) {
	if key == nil {
		return attest.Unverified(note)
	}
	return key.Open(note)
}
