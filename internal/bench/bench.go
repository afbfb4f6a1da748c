// Package bench measures Holdfast as a whole: producers, stream, workers and bucket in one figure, beside raw JetStream on
// the same server in the same run.
//
// [Throughput] lets both take turns for some rounds. A round of the pipeline publishes holds as fast as they are taken, and
// is over when all of them are folded and the checkpoints that cover them are stored. A round of raw JetStream publishes the
// very envelopes that the round before has left in the stream, on a stream with the same settings and subjects, as many at a
// time, and reads them, by the client library alone and with no work done on them; it is over when all are acknowledged
// and read.
//
// [Staleness] publishes at a steady rate instead, and measures how long each event takes to be in the bucket.
//
// Both make the pipeline's streams and buckets, and delete them in the end. Where any of those exist already they refuse:
// the names are fixed, and what is there is somebody's.
package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
)

// ErrInUse is the error of a measurement on a server whose account has streams of a pipeline, or of another measurement. Nothing was touched.
var ErrInUse = errors.New("streams are here already that a pipeline or a benchmark lives in")

// LeftError says that something that the measurement made is still there.
type LeftError struct{ err error }

func (e *LeftError) Error() string { return e.err.Error() }
func (e *LeftError) Unwrap() error { return e.err }

// removal bounds deleting what a round made, which happens also when the measurement was interrupted. A server may fail to delete
// a stream while it still writes what a consumer of it has left; so an attempt that fails is repeated after removalPause.
const (
	removal      = 30 * time.Second
	removalPause = 100 * time.Millisecond
)

// Options say what is measured, and on what.
type Options struct {
	// Connect makes a connection that the server's monitoring shows under that name. The measurement closes it. Required.
	Connect func(ctx context.Context, name string) (*nats.Conn, error)
	// Aggregate serves all partitions until ctx is done, then stores what is folded and returns nil. Required.
	Aggregate func(ctx context.Context, nc *nats.Conn) error
	// Holders is how many holders there are, 1 at least. Each has a hold before anything is measured.
	Holders int
	// Events is how many holds are published in each round, 1 at least.
	Events int
	// Envelope is how many events an envelope may have, 1 to events.MaxBatch.
	Envelope int
	// Rounds is how many times each side is measured, 1 at least; for Throughput alone.
	Rounds int
	// Rate is how many events are published a second, 1 at least; for Staleness alone.
	Rate int
	// Progress, if set, is told of each round of Throughput when it is over.
	Progress func(Round)
}

// Machine is what a figure was measured on.
type Machine struct {
	Go    string `json:"go"`   // the version of Go
	OS    string `json:"os"`   // and the architecture
	Cores int    `json:"cpus"` // how many run Go code at once
}

// String returns it as people read it.
func (m Machine) String() string { return fmt.Sprintf("%d cores, %s, %s", m.Cores, m.OS, m.Go) }

func thisMachine() Machine {
	return Machine{Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.GOMAXPROCS(0)}
}

// placeStream is a stream that stays empty, from the beginning to the end. Without it a round's streams would be the account's last:
// a server removes the folder of an account that has none, and does that after it has answered, when the next round may be
// making its own in there, which then fails.
const placeStream = "HOLDFAST_BENCH_PLACE"

// session is a measurement under way.
type session struct {
	Options
	client *jetstream.Client // for what is not measured
	js     natsjs.JetStream  // on the same connection
}

// begin connects, and makes sure that nothing is disturbed. The caller calls end.
func begin(ctx context.Context, o Options) (*session, error) {
	if o.Connect == nil || o.Aggregate == nil {
		return nil, errors.New("bench: Connect and Aggregate are required")
	}
	if o.Holders < 1 || o.Events < 1 {
		return nil, fmt.Errorf("bench: %d holders, %d events; each is 1 at least", o.Holders, o.Events)
	}
	nc, err := o.Connect(ctx, "holdfast-bench")
	if err != nil {
		return nil, err
	}
	s := &session{Options: o}
	if s.client, err = jetstream.New(nc); err == nil {
		s.js, err = natsjs.New(nc)
	}
	if err == nil {
		err = s.checkUnused(ctx)
	}
	if err == nil {
		if _, err = s.js.CreateStream(ctx, natsjs.StreamConfig{Name: placeStream}); err != nil {
			err = errors.Join(fmt.Errorf("make stream %s: %w", placeStream, err), s.remove(ctx, placeStream)) // it may be there all the same
		}
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return s, nil
}

func (s *session) end(ctx context.Context) error {
	defer s.client.Conn().Close()
	return s.remove(ctx, placeStream)
}

// checkUnused makes sure that none of the streams exist that a round makes.
func (s *session) checkUnused(ctx context.Context) error {
	for _, name := range append(jetstream.Streams(), rawStream, placeStream) {
		_, err := s.js.Stream(ctx, name)
		switch {
		case err == nil:
			return fmt.Errorf("%w: stream %s exists; give the benchmark an account of its own (or, if a benchmark that was killed left it, delete it)", ErrInUse, name)
		case !errors.Is(err, natsjs.ErrStreamNotFound):
			return fmt.Errorf("look for stream %s: %w", name, err)
		}
	}
	return nil
}

// makeStreams makes the pipeline's streams and buckets, all of them.
func (s *session) makeStreams(ctx context.Context) error {
	policy := state.DefaultPolicy()
	changes, err := s.client.Apply(ctx, jetstream.Declaration{Policy: policy.Map()})
	if made, all := len(changes), len(jetstream.Streams()); err == nil && made != all {
		err = fmt.Errorf("%w: %d of %d were made by somebody else just now", ErrInUse, all-made, all)
	}
	if err == nil {
		return nil
	}
	var ours []string
	for _, c := range changes {
		if name, isBucket := strings.CutPrefix(c.Created, "bucket "); isBucket {
			ours = append(ours, "KV_"+name)
		} else {
			ours = append(ours, strings.TrimPrefix(c.Created, "stream "))
		}
	}
	return errors.Join(err, s.remove(ctx, ours...))
}

// remove deletes streams that a round made, also when ctx is done.
func (s *session) remove(ctx context.Context, names ...string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removal)
	defer cancel()
	var errs []error
	for _, name := range names {
		if err := s.removeOne(ctx, name); err != nil {
			errs = append(errs, fmt.Errorf("delete stream %s: %w", name, err))
		}
	}
	if len(errs) > 0 {
		return &LeftError{errors.Join(errs...)}
	}
	return nil
}

// removeOne deletes a stream, if it is there, and tries until ctx is done.
func (s *session) removeOne(ctx context.Context, name string) error {
	for {
		err := s.js.DeleteStream(ctx, name)
		if err == nil || errors.Is(err, natsjs.ErrStreamNotFound) {
			return nil
		}
		select {
		case <-time.After(removalPause):
		case <-ctx.Done():
			return err
		}
	}
}

// median returns the middle of what a list says of its elements, the mean of the two middle ones if their number is even.
func median[E any](list []E, of func(E) float64) float64 {
	values := make([]float64, len(list))
	for i, e := range list {
		values[i] = of(e)
	}
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
