package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	v1 "github.com/city-chain/holdfast/api/holdfast/v1"
	"github.com/city-chain/holdfast/api/holdfast/v1/holdfastv1connect"
	"github.com/city-chain/holdfast/internal/rpc"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/pkg/events"
)

const (
	// DefaultMaxReaders is the default of Options.MaxReaders.
	DefaultMaxReaders = 2000

	minInterval     = 100 * time.Millisecond
	maxInterval     = time.Hour
	defaultInterval = time.Second
	maxIDs          = 1000
	maxBroadcastTop = 1000

	reasonTooManyReaders = "TOO_MANY_READERS"
	reasonTooSlow        = "TOO_SLOW"
	readersRetryAfter    = 10 * time.Second
	slowRetryAfter       = time.Second

	// resumePatience is how long a reader waits for a state that is behind what another exporter told it.
	resumePatience = 3 * time.Second
)

// broadcaster tells readers of Broadcast what changes. There is no queue: a reader is a position, and is told, whenever it is its
// turn and it has taken what came before, what has changed since. However long that is, each holder is told of once. So a
// slow reader costs nothing but its messages being larger and fewer, and a reader costs a goroutine and one message.
type broadcaster struct {
	beats   beats
	most    int
	limit   time.Duration // for which a reader may take nothing
	readers atomic.Int64
}

// uncompressed has what Broadcast sends not be compressed: that would be done anew for each reader.
var uncompressed = connect.WithConditionalHandlerOptions(func(spec connect.Spec) []connect.HandlerOption {
	if spec.Procedure != holdfastv1connect.HoldMetricsBroadcastProcedure {
		return nil
	}
	return []connect.HandlerOption{connect.WithCompressMinBytes(math.MaxInt)}
})

// newBroadcaster registers its metric and returns a broadcaster for as many readers at once, and as slow ones, as the options say.
func newBroadcaster(view *View, o *Options) (*broadcaster, error) {
	b := &broadcaster{beats: beats{view: view, span: beatSpan, size: pieceBytes}, most: o.MaxReaders, limit: cmp.Or(o.WriteLimit, service.DefaultWriteLimit)}
	err := o.Registry.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "holdfast_exporter_broadcast_readers", Help: "Streams of Broadcast that are open.",
	}, func() float64 { return float64(b.readers.Load()) }))
	if err != nil {
		return nil, fmt.Errorf("register metrics of Broadcast: %w", err)
	}
	return b, nil
}

// Broadcast implements [holdfastv1connect.HoldMetricsHandler].
func (b *broadcaster) Broadcast(ctx context.Context, request *connect.Request[v1.BroadcastRequest], stream *connect.ServerStream[v1.BroadcastResponse]) error {
	interval, choose, err := readBroadcast(request.Msg)
	if err != nil {
		return err
	}
	now := b.readers.Add(1)
	defer b.readers.Add(-1)
	if now > int64(b.most) {
		return rpc.Retry(rpc.Fail(connect.CodeResourceExhausted, reasonTooManyReaders, map[string]string{"limit": strconv.Itoa(b.most)},
			"there are %d readers of Broadcast already, which is the limit; ask another exporter, or later", b.most), readersRetryAfter)
	}
	r := &reader{beats: &b.beats, choose: choose, send: stream.Send, limit: b.limit}
	if resume := request.Msg.GetResume(); resume != nil && choose.resumes() {
		r.known = true
		r.from = position{bucket: resume.GetBucket().AsTime(), revision: resume.GetRevision(), at: events.Time(resume.GetAt().AsTime().UnixMilli())}
	}
	if strings.Contains(stream.Conn().RequestHeader().Get("Content-Type"), "json") {
		r.send = func(m *v1.BroadcastResponse) error { return stream.Send(unpacked(m)) }
	}
	return b.read(ctx, r, interval)
}

// read tells a reader what changes, until it goes or the exporter stops. The turns of all readers with the same interval come at
// the same time, so that they share what is made for them.
func (b *broadcaster) read(ctx context.Context, r *reader, interval time.Duration) error {
	if err := r.await(ctx); err != nil {
		return err
	}
	for {
		if err := r.catchUp(ctx); err != nil {
			return err
		}
		now := time.Now()
		turn := time.NewTimer(now.Truncate(interval).Add(interval).Sub(now))
		select {
		case <-turn.C:
		case <-ctx.Done():
			turn.Stop()
			return ended(ctx)
		}
	}
}

// ended says why a stream ends whose context is done.
func ended(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), service.ErrStopping) {
		return rpc.Retry(connect.NewError(connect.CodeUnavailable, errors.New("the exporter stops; go on by resume, at another exporter or at this one when it is there again")), rpcRetryAfter)
	}
	return connect.NewError(connect.CodeCanceled, context.Cause(ctx))
}

// reader is one stream. It belongs to its goroutine.
type reader struct {
	beats  *beats
	choose chooser
	send   func(*v1.BroadcastResponse) error
	limit  time.Duration // for which it may take nothing

	known bool     // the reader knows everything up to from
	from  position // what it knows
}

// chooser tells a reader of those holders that it asked for.
type chooser interface {
	// begin returns about how many holders a snapshot has.
	begin(*beat) uint64
	// next returns what the reader is told next, behind a cursor.
	next(b *beat, r *reader, at cursor, steady bool) piece
	// resumes tells whether a reader who knows a position, and nothing else of this stream, can be told what has changed since.
	resumes() bool
}

// catchUp tells the reader what has changed, until it knows everything as of one instant.
//
// A pass over all slots tells what has changed since the position that the reader had. If the reader takes it within the life of
// a beat, the reader then knows the state of that beat, and the last message says so. Otherwise the pass goes on with the state
// as it is by then; the reader knows at least what the first beat had, and the next pass, from there, has less to tell.
func (r *reader) catchUp(ctx context.Context) error {
	for {
		steady, err := r.pass(ctx)
		if err != nil || steady {
			return err
		}
	}
}

// pass goes over all slots once. It tells whether the reader then knows the state of one beat.
func (r *reader) pass(ctx context.Context) (steady bool, err error) {
	b, err := r.beats.current()
	if err != nil {
		return false, failure(err)
	}
	// If the state is not a later one than it knows, be it another bucket's, or one that has forgotten what became of some
	// holders since, a reader is told everything anew.
	r.known = r.known && b.bucket.Equal(r.from.bucket) && !b.behind(&r.from) && b.snapshot.Follows(r.from.revision)
	target, snapshot := b.position, !r.known
	if snapshot {
		number, begin := b.number, &v1.BroadcastResponse{
			Position: b.message(), Event: &v1.BroadcastResponse_SnapshotBegin{SnapshotBegin: &v1.SnapshotBegin{Holders: r.choose.begin(b)}},
		}
		b = nil // not to be kept while the reader keeps us waiting
		if err := r.tell(ctx, begin); err != nil {
			return false, err
		}
		if b = r.beats.find(number); b == nil {
			if b, err = r.beats.current(); err != nil {
				return false, failure(err)
			}
			target = b.position // nothing was told yet
		}
	}
	steady = true
	for at, last := (cursor{}), false; !last; {
		p := r.choose.next(b, r, at, steady)
		at, last = p.end, p.last
		number := b.number
		b = nil
		if len(p.encoded) > 0 {
			if err := r.tell(ctx, packed(p.encoded)); err != nil {
				return false, err
			}
		}
		if b = r.beats.find(number); b == nil && !last {
			if b, err = r.beats.current(); err != nil {
				return false, failure(err)
			}
			steady = false
		}
	}
	r.known, r.from = true, target
	if !snapshot {
		return steady, nil
	}
	return steady, r.tell(ctx, &v1.BroadcastResponse{
		Position: target.message(), Resumable: steady, Event: &v1.BroadcastResponse_SnapshotEnd{SnapshotEnd: &v1.SnapshotEnd{}},
	})
}

// await waits, if the reader resumes, until the state has what the reader knows. It does not wait long.
func (r *reader) await(ctx context.Context) error {
	patience := time.NewTimer(resumePatience)
	defer patience.Stop()
	look := time.NewTicker(beatSpan)
	defer look.Stop()
	for {
		b, err := r.beats.current()
		if err != nil {
			return failure(err)
		}
		if !r.known || !b.bucket.Equal(r.from.bucket) || !b.behind(&r.from) {
			return nil
		}
		select {
		case <-look.C:
		case <-patience.C:
			return nil
		case <-ctx.Done():
			return ended(ctx)
		}
	}
}

// tell sends one message.
func (r *reader) tell(ctx context.Context, m *v1.BroadcastResponse) error {
	err := r.send(m)
	switch {
	case err == nil:
		if ctx.Err() != nil {
			return ended(ctx)
		}
		return nil
	case errors.Is(err, service.ErrTooSlow):
		// Over HTTP/2 as Go has it, a client that takes nothing is told the code alone, by the reset of its stream: decision 19.
		return rpc.Retry(rpc.Fail(connect.CodeResourceExhausted, reasonTooSlow, map[string]string{"limit": r.limit.String()},
			"%w; read faster, ask for fewer holders, or resume later", err), slowRetryAfter)
	}
	return err
}

// unpacked returns a message whose fields can be looked at, as another encoding than protobuf's needs them.
func unpacked(m *v1.BroadcastResponse) *v1.BroadcastResponse {
	encoded := m.ProtoReflect().GetUnknown()
	if len(encoded) == 0 {
		return m
	}
	whole := &v1.BroadcastResponse{}
	if err := proto.Unmarshal(encoded, whole); err != nil {
		panic("export: a message that was encoded cannot be decoded: " + err.Error())
	}
	return whole
}

// readBroadcast checks a request.
func readBroadcast(m *v1.BroadcastRequest) (time.Duration, chooser, error) {
	interval := defaultInterval
	if m.GetInterval() != nil {
		interval = m.GetInterval().AsDuration()
		if m.GetInterval().CheckValid() != nil || interval < minInterval || interval > maxInterval {
			return 0, nil, rpc.Invalid("interval", "%v is not from %v to %v", interval, minInterval, maxInterval)
		}
	}
	if resume := m.GetResume(); resume != nil {
		if resume.GetAt() == nil || resume.GetBucket() == nil {
			return 0, nil, rpc.Invalid("resume", "it is not the position of a message: at or bucket is missing")
		}
		if _, err := asked("resume.at", resume.GetAt()); err != nil {
			return 0, nil, err
		}
	}
	switch which := m.GetHolders().(type) {
	case *v1.BroadcastRequest_Ids:
		ids := slices.Clone(which.Ids.GetHolderIds())
		if len(ids) == 0 || len(ids) > maxIDs {
			return 0, nil, rpc.Invalid("ids", "%d ids; it is 1 to %d", len(ids), maxIDs)
		}
		slices.Sort(ids)
		for i, id := range ids {
			if wrong := checkID(id); wrong != "" {
				return 0, nil, rpc.Invalid("ids", "of an id: %s", wrong)
			}
			if i > 0 && ids[i-1] == id {
				return 0, nil, rpc.Invalid("ids", "%q is there twice", id)
			}
		}
		return interval, chosen(ids), nil
	case *v1.BroadcastRequest_Top:
		n, err := number("top", which.Top, 0, maxBroadcastTop)
		if err != nil {
			return 0, nil, err
		}
		if n == 0 {
			return 0, nil, rpc.Invalid("top", "0 is not a number from 1 to %d", maxBroadcastTop)
		}
		return interval, &first{n: n}, nil
	}
	return interval, everyone{}, nil
}
