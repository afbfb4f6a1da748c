package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/city-chain/holdfast/jetstream"
)

// DefaultSealAfter is how long a segment is open at most while a stream is followed.
const DefaultSealAfter = 10 * time.Minute

// Options say what to archive.
type Options struct {
	// Dir is the archive's folder, made if it is missing. It must be on a disk whose fsync counts. Required.
	Dir string
	// Client reads the streams, and purges them if Purge is set. Required.
	Client *jetstream.Client
	// SegmentBytes is how many bytes of messages a segment has at most, before they are compressed; one message is always taken. 0 = DefaultSegmentBytes.
	SegmentBytes int64
	// Follow goes on, until the context ends, with what is stored later. Otherwise the end is that of each stream as Run begins.
	Follow bool
	// SealAfter is, with Follow, how long a message waits at most in a segment that is not whole. 0 = DefaultSealAfter.
	SealAfter time.Duration
	// Purge has the logs forget what is archived, was read back, and is folded by every partition.
	Purge bool
	// Keep is how long before now a message must have been stored for it to be purged. 0 = as soon as it may be.
	Keep time.Duration
	// Progress, if it is not nil, is called now and then, by one goroutine at a time.
	Progress func(Progress)
	// Sealed, if it is not nil, is called with Follow whenever a segment is whole, and what may be is purged. It may be called for different streams at once.
	Sealed func(Archived)
}

// Validate returns what is wrong with the options, or nil.
func (o *Options) Validate() error {
	switch {
	case o.Dir == "" || o.Client == nil:
		return errors.New("a folder and a client are required")
	case o.SegmentBytes < 0:
		return fmt.Errorf("segments of %d bytes; it is 1 or more, or 0", o.SegmentBytes)
	case o.SealAfter < 0 || o.Keep < 0:
		return fmt.Errorf("seal after %v, keep %v: neither is below 0", o.SealAfter, o.Keep)
	case o.Keep > 0 && !o.Purge:
		return errors.New("keep says what is not purged, and nothing is to be purged")
	}
	return nil
}

// Progress is how far Run or Verify has come, over all streams.
type Progress struct {
	Messages uint64 // read
	Total    uint64 // to be read; with Options.Follow, as far as is known
	Bytes    uint64 // of the messages' data
}

// Result is what Run came to.
type Result struct {
	Streams []Archived `json:"streams"`
}

// Archived is what the archive has of a stream after Run.
type Archived struct {
	Stream   string  `json:"stream"`
	Created  int64   `json:"created"` // when the stream was made, in Unix nanoseconds
	Last     uint64  `json:"last"`    // the last sequence; the first one is 1. 0 = there is nothing yet
	Added    uint64  `json:"added"`   // messages, by this run
	Segments int     `json:"segments"`
	Head     string  `json:"head"`   // the digest, in hexadecimal, that vouches for all of it
	Purged   *Purged `json:"purged"` // nil: nothing was to be purged
}

// Run archives what the streams have behind what the archive has of them, each by itself at the same time. What was added when an error occurs, or the context ends, is kept.
//
// Its errors are ErrForeign if a stream is not the one that is archived; jetstream.ErrStreamChanged if it ends before the archive does;
// jetstream.ErrTrimmed if it has lost messages before they were archived, and ErrGap if they were lost in between: then the archive ends before the
// gap; ErrDamaged if the last segment is not what was written; the context's, but not with Follow; and those of the file system and of the client.
// Beside an error, the result is of what could be done, or nil.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.SealAfter == 0 {
		o.SealAfter = DefaultSealAfter
	}
	lock, err := lockFolder(o.Dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close() // nothing was written to it
	r := &archiving{Options: o, meter: meter{report: o.Progress}}
	if err := r.open(ctx); err != nil {
		return nil, err
	}
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var running sync.WaitGroup
	failures := make([]error, len(r.jobs))
	for i := range r.jobs {
		running.Go(func() {
			if failures[i] = r.jobs[i].run(inner); failures[i] != nil {
				cancel(failures[i])
			}
		})
	}
	running.Wait()
	r.meter.tell()
	err = errors.Join(failures...)
	if !o.Follow {
		err = errors.Join(ctx.Err(), err)
	}
	result := &Result{}
	for i := range r.jobs {
		result.Streams = append(result.Streams, r.jobs[i].archived())
	}
	return result, err
}

// archiving is a run that is under way.
type archiving struct {
	Options
	meter meter
	jobs  []job
}

// job archives one stream.
type job struct {
	*archiving
	stream  string
	created time.Time
	through uint64 // what the stream ended with
	to      *appender
	added   uint64
	purged  *Purged
}

// open opens the archive of each stream that there is, and makes sure that it is that stream's.
func (r *archiving) open(ctx context.Context) error {
	extents, err := r.extents(ctx)
	if err != nil {
		return err
	}
	for _, stream := range Streams() {
		extent, there := extents[stream]
		if !there {
			continue
		}
		policy, err := r.Client.Policy(ctx, jetstream.Log{Stream: stream})
		if err != nil {
			return err
		}
		to, err := openAppender(r.Dir, newManifest(stream, extent.Created, policy), r.SegmentBytes)
		if err != nil {
			return err
		}
		if err := to.checkStream(ctx, r.Client, extent); err != nil {
			return err
		}
		r.jobs = append(r.jobs, job{archiving: r, stream: stream, created: extent.Created, through: extent.LastSequence, to: to})
		r.meter.total.Add(extent.LastSequence - to.at)
	}
	return nil
}

// extents returns what each stream that there is has. The checkpoints are asked for before the logs: one is published when its messages are stored, so a run that is not
// cut off has the messages of every checkpoint that it has.
func (r *archiving) extents(ctx context.Context) (map[string]jetstream.Extent, error) {
	extents := map[string]jetstream.Extent{}
	for _, stream := range slices.Backward(Streams()) {
		extent, err := r.Client.StreamExtent(ctx, stream)
		if errors.Is(err, jetstream.ErrNoStream) && !isLog(stream) {
			continue
		}
		if err != nil {
			return nil, err
		}
		extents[stream] = extent
	}
	return extents, nil
}

// isLog tells whether a stream is a log's.
func isLog(stream string) bool {
	return slices.ContainsFunc(jetstream.Logs(), func(l jetstream.Log) bool { return l.Stream == stream })
}

// checkStream makes sure that the stream can be archived behind what is archived already.
func (a *appender) checkStream(ctx context.Context, client *jetstream.Client, now jetstream.Extent) error {
	stream := a.volume.manifest.Stream
	switch {
	case now.LastSequence < a.at:
		return fmt.Errorf("%w: %s ends at sequence %d, and the archive %s at %d: the stream was restored from an older copy, or cut", jetstream.ErrStreamChanged, stream, now.LastSequence, a.volume.dir, a.at)
	case now.FirstSequence > a.at+1:
		return fmt.Errorf("%w: %s begins at sequence %d: %s were not archived before they were purged or expired, and the archive has no gaps", jetstream.ErrTrimmed, stream, now.FirstSequence, sequences(a.at+1, now.FirstSequence-1))
	case a.at == 0:
		return nil
	}
	archived, err := a.volume.lastMessage(ctx)
	if err != nil {
		return err
	}
	if now.FirstSequence > a.at {
		return nil // all that is archived was purged
	}
	stored, err := client.Message(ctx, stream, a.at)
	switch {
	case errors.Is(err, jetstream.ErrSequenceNotFound):
		return fmt.Errorf("%w: message %d of %s, the last one that is archived, was deleted from the stream", ErrGap, a.at, stream)
	case err != nil:
		return err
	case !same(&stored, &archived):
		return fmt.Errorf("%w: message %d of %s is not the one that is archived in %s", ErrForeign, a.at, stream, a.volume.dir)
	}
	return nil
}

// lastMessage reads the last segment, and returns its last message.
func (v *volume) lastMessage(ctx context.Context) (last jetstream.Message, err error) {
	s := v.lastSegment()
	s.messages(ctx, s.first, s.last, func(m jetstream.Message, e error) bool {
		last, err = m, e
		return e == nil
	})
	return last, err
}

// run archives the stream, and has it forget what it may.
func (j *job) run(ctx context.Context) error {
	if err := j.copy(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	if j.Purge && isLog(j.stream) && !j.Follow {
		return j.end(ctx, j.forget(ctx))
	}
	return nil
}

// end seals the open segment, so that what was read is kept, and returns what has gone wrong. What goes wrong because the context has ended is not told here: it is Run's to say.
func (j *job) end(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = nil
	}
	return errors.Join(err, j.to.seal())
}

// copy archives the stream as far as it goes. Whatever ends it, what was read is kept, but for an error of writing. That the context has ended is no error.
func (j *job) copy(ctx context.Context) error {
	if !j.Follow && j.to.at >= j.through {
		return nil
	}
	reader, err := j.Client.ReadStream(ctx, j.stream, j.to.at+1)
	if err != nil {
		return j.end(ctx, err)
	}
	defer reader.Stop()
	told, ask := time.Now(), true
	var sealAt time.Time // of the open segment
	for j.Follow || j.to.at < j.through {
		if ask && j.to.at < j.through {
			if err := j.noGap(ctx); err != nil {
				return j.end(ctx, err)
			}
		}
		m, err := j.next(ctx, reader, sealAt)
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			if err := j.to.seal(); err != nil {
				return err
			}
			if err := j.sealed(ctx); err != nil {
				return j.end(ctx, err)
			}
			continue
		}
		if err != nil {
			return j.end(ctx, err)
		}
		if m.Sequence != j.to.at+1 {
			return j.end(ctx, j.gap(m.Sequence-1))
		}
		begins := j.to.open == nil
		sealed, err := j.to.add(&m)
		if err != nil {
			return errors.Join(err, j.to.abandon())
		}
		if begins || sealed {
			sealAt = time.Now().Add(j.SealAfter)
		}
		if sealed {
			if err := j.sealed(ctx); err != nil {
				return j.end(ctx, err)
			}
		}
		j.added++
		ask = m.Pending == 0
		j.meter.read(&m)
		if time.Since(told) > tellEvery {
			j.meter.tell()
			told = time.Now()
		}
	}
	return j.to.seal()
}

// next waits for the next message, while the stream is followed no longer than until the open segment is to be sealed.
func (j *job) next(ctx context.Context, reader *jetstream.Reader, sealAt time.Time) (jetstream.Message, error) {
	if j.Follow && j.to.open != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, sealAt)
		defer cancel()
	}
	return reader.Next(ctx)
}

// noGap makes sure that the stream has the next message, so that it is not waited for in vain.
func (j *job) noGap(ctx context.Context) error {
	through, err := j.Client.StreamEmptyThrough(ctx, j.stream, j.to.at)
	if err != nil {
		return err
	}
	if through > j.to.at {
		return j.gap(through)
	}
	return nil
}

// gap says that the stream lacks what follows, through a sequence.
func (j *job) gap(through uint64) error {
	return fmt.Errorf("%w: %s no longer has %s, deleted one by one: the archive ends before them; restore the stream, then go on", ErrGap, j.stream, sequences(j.to.at+1, through))
}

// sealed has a log that is followed forget what it may, once there is another segment.
func (j *job) sealed(ctx context.Context) error {
	if !j.Follow {
		return nil
	}
	if j.Purge && isLog(j.stream) {
		if err := j.forget(ctx); err != nil {
			return err
		}
	}
	if j.Sealed != nil {
		j.Sealed(j.archived())
	}
	return nil
}

// archived returns what the archive has of the stream.
func (j *job) archived() Archived {
	v := j.to.volume
	return Archived{Stream: j.stream, Created: v.manifest.Created, Last: v.last(), Added: j.added, Segments: len(v.segments), Head: v.head().String(), Purged: j.purged}
}

// tellEvery is how often progress is reported.
const tellEvery = 100 * time.Millisecond

// meter counts what is read, and tells someone now and then.
type meter struct {
	messages, total, bytes atomic.Uint64

	mu     sync.Mutex
	report func(Progress) // nil: nobody; guarded by mu, so that one call is under way at a time
}

// read counts a message.
func (m *meter) read(message *jetstream.Message) {
	m.messages.Add(1)
	m.bytes.Add(uint64(len(message.Data)))
}

// tell reports how far it is.
func (m *meter) tell() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.report != nil {
		m.report(Progress{Messages: m.messages.Load(), Total: max(m.total.Load(), m.messages.Load()), Bytes: m.bytes.Load()})
	}
}
