// Package rejected reads the events that the fold refused, and sends them again: each once, however often it is asked to.
//
//	REJECTED ──► List, Show, Count ──► a person
//	    │
//	    └──► Retry ──► RETRIES: "these are numbers 8 to 10 of partition 3" ──► HOLDS, POH ──► RETRIES: "stored"
//
// # Once
//
// What is sent again is numbered, under the producer's name [Producer], one sequence for each partition of a log. The fold
// skips numbers that it has, for ever, so an envelope may be sent any number of times. What is left is that no event gets two
// numbers. The numbers are given out in batches, and a batch is one key of the bucket RETRIES:
//
//	<stream>.<when it was made>.<partition>.<first number>: which rejections, in the order of their numbers; their envelope
//
// It is created, which the bucket lets one writer do, so a partition's batches form one chain from number 1 on. To give out
// numbers from n on is to have read all of the chain before n, and whoever has not (another command was faster, a
// replica lagged) finds that n is taken. So a rejection that is in the chain already is always seen.
//
// # What a crash means
//
// Before the batch is created: nothing has happened. After it: the batch has its envelope, which is the same bytes whoever
// sends it. Every command begins by sending what is in the chain and not known to be stored, and then notes that it is,
// which drops the envelope. A batch of unknown outcome is looked up by the attempt that it names. So numbers have no gaps:
// a batch is created only after all before it are stored.
//
// What is sent again is judged again, at its new place in the stream. If it is refused again, that is another rejection with
// an identity of its own.
package rejected

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// Producer is the name under which rejected events are numbered when they are sent again. Names that begin so are
// reserved, see [events.ReservedProducers].
const Producer = events.ReservedProducers + "rejected"

var (
	// ErrNotFound: there is no such rejection.
	ErrNotFound = errors.New("no such rejection")

	// ErrRecords: the bucket RETRIES does not have all that was written to it, so what was sent again is not known.
	// Nothing is sent then.
	ErrRecords = errors.New("the record of what was sent again is not whole")
)

// ID identifies a rejection, and the event: it is the one at Index, from 0, of that message of that stream.
type ID struct {
	Stream   string
	Sequence uint64
	Index    int
}

// String returns the id as it is given to commands, such as "HOLDS.17.0".
func (id ID) String() string {
	return id.Stream + "." + strconv.FormatUint(id.Sequence, 10) + "." + strconv.Itoa(id.Index)
}

func (id ID) subject() string {
	return jetstream.Rejection{Stream: id.Stream, Sequence: id.Sequence, Index: id.Index}.Subject()
}

// ParseID reads an id, or the subject of a rejection, which has "rejected." before it.
func ParseID(s string) (ID, error) {
	tokens := strings.Split(strings.TrimPrefix(s, "rejected."), ".")
	if len(tokens) == 3 {
		sequence, errSequence := strconv.ParseUint(tokens[1], 10, 64)
		index, errIndex := strconv.ParseUint(tokens[2], 10, 31)
		if _, ok := codecs[tokens[0]]; ok && errSequence == nil && errIndex == nil {
			return ID{tokens[0], sequence, int(index)}, nil
		}
	}
	return ID{}, fmt.Errorf("%q is not the id of a rejection: it is <stream>.<sequence>.<index>, such as HOLDS.17.0", s)
}

// Rejection is a rejection as it is stored.
type Rejection struct {
	jetstream.Rejection
	At time.Time // when it was stored
}

// ID returns what identifies the rejection.
func (r Rejection) ID() ID { return ID{r.Stream, r.Sequence, r.Index} }

// stream is what this package needs of NATS' streams; see jetstream.Client for what the methods promise.
type stream interface {
	StreamState(ctx context.Context, log jetstream.Log) (jetstream.State, error)
	RejectionMessage(ctx context.Context, subject string) (jetstream.Message, error)
	RejectedSequences(ctx context.Context) (first, last uint64, err error)
	ReadStream(ctx context.Context, stream string, from uint64) (*jetstream.Reader, error)
	Publish(ctx context.Context, subject string, header jetstream.Header, data []byte) (jetstream.Ack, error)
}

// bucket is what it needs of the bucket RETRIES; see jetstream.Bucket.
type bucket interface {
	getter
	Load(ctx context.Context, filter string) ([]jetstream.Entry, error)
	Create(ctx context.Context, key string, value []byte, ttl time.Duration) (uint64, error)
	Update(ctx context.Context, key string, value []byte, revision uint64, ttl time.Duration) (uint64, error)
}

// getter is what it needs of the buckets that the fold is kept in.
type getter interface {
	Get(ctx context.Context, key string) (jetstream.Entry, error)
}

// Archive is the rejections and the record of which were sent again. It is safe for concurrent use.
type Archive struct {
	stream   stream
	retries  bucket
	states   map[string]getter // by stream
	patience time.Duration     // how long a write is tried again

	// Unreadable is told of each message of REJECTED that is no rejection and is passed over. Open has it do nothing. It
	// may be set before the archive is used.
	Unreadable func(error)
}

// defaultPatience is longer than an election of a new leader takes.
const defaultPatience = 30 * time.Second

// Open returns the archive that a client reaches. Nothing is asked of the server.
func Open(c *jetstream.Client) *Archive {
	a := &Archive{stream: c, retries: c.Bucket(jetstream.Retries), states: map[string]getter{}, patience: defaultPatience, Unreadable: func(error) {}}
	for _, log := range jetstream.Logs() {
		a.states[log.Stream] = c.Bucket(log.Bucket)
	}
	return a
}

// find reads one rejection, or returns ErrNotFound.
func (a *Archive) find(ctx context.Context, id ID) (Rejection, error) {
	m, err := a.stream.RejectionMessage(ctx, id.subject())
	if errors.Is(err, jetstream.ErrSequenceNotFound) {
		return Rejection{}, fmt.Errorf("%s: %w", id, ErrNotFound)
	}
	if err != nil {
		return Rejection{}, explain(err)
	}
	return parse(m)
}

func parse(m jetstream.Message) (Rejection, error) {
	r, err := jetstream.ParseRejection(m)
	return Rejection{r, m.Time}, err
}
