// Package witness keeps an operator's signed checkpoints elsewhere, and cosigns those that agree with what it has read itself.
//
// A witness trusts the log for nothing: it reads every message of both logs once, as they come, and keeps of each partition a Merkle tree of them (package
// merkle). A signed checkpoint is cosigned if the log's key has signed it, it is of the stream that all before it were of, it is
// larger than the one before, and its root is that of the messages that the witness has read: no proof of consistency has to be
// asked of anyone. Whatever does not agree is refused, and kept as evidence. That the roots of the state follow from the messages
// is not looked at: an audit does that.
//
//	CHECKPOINTS ──► admit (signature, stream, order) ──► walk over the log ──► judge (size, root, clock) ──► record, tree, checkpoint
//
// A witness only reads from NATS; what it says stands in its folder, each checkpoint a signed note with both signatures.
package witness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// Source is where the messages of the logs are read from: the streams, or whatever else has all of them.
type Source interface {
	// State returns what a log has: Created, FirstSequence and LastSequence are looked at.
	State(ctx context.Context, log jetstream.Log) (jetstream.State, error)
	// Read reads all messages of a log, of every partition, from one sequence through another (1 ≤ from ≤ through).
	Read(ctx context.Context, log jetstream.Log, from, through uint64) (Reader, error)
}

// Reader delivers messages in the order of their sequences. It is used by one goroutine.
type Reader interface {
	// Next returns the next message, or io.EOF if there is none up to the last one that was asked for. A sequence may be left
	// out: that is for the caller to see.
	Next(ctx context.Context) (jetstream.Message, error)
	// Stop releases what the reader holds.
	Stop()
}

// Options say what to witness.
type Options struct {
	// Client reads the stream of checkpoints. Required.
	Client *jetstream.Client
	// Source has the messages. Required.
	Source Source
	// Key is the log's public key. Required.
	Key attest.Key
	// Cosigner is the witness's own key. Required.
	Cosigner *attest.Cosigner
	// Dir is the folder in which everything is kept. Required.
	Dir string
	// Once ends the witness when it has judged all checkpoints that there are when it starts.
	Once bool
	// Patience is how long to wait for a stream that ends before the sequence of a checkpoint, as a new leader's may for a moment, until
	// that checkpoint is refused; 0 = 30 s.
	Patience time.Duration
	// Registry takes the metrics; nil: there are none.
	Registry prometheus.Registerer
	// Health is told whether anything is refused, as the check "witness"; nil: nobody is.
	Health *service.Health
	// Logger takes what is cosigned and refused. Required.
	Logger *slog.Logger
}

// Validate returns what is wrong with the options, or nil.
func (o *Options) Validate() error {
	switch {
	case o.Client == nil || o.Source == nil || o.Cosigner == nil || o.Logger == nil:
		return errors.New("a client, a source, a key and a logger are required")
	case o.Dir == "":
		return errors.New("a folder is required")
	case o.Patience < 0:
		return fmt.Errorf("a patience of %s; it is not negative", o.Patience)
	}
	return nil
}

// What a witness may end with, beside errors of NATS, of the disk, and ErrDamaged.
var (
	// ErrRefused says that a checkpoint was refused, now or before.
	ErrRefused = errors.New("not everything that the log has signed agrees with what was read")
	// ErrLost says that messages are gone which the witness needs to go on.
	ErrLost = errors.New("messages are gone that are needed to go on")
)

// Summary is what a witness has done since it started.
type Summary struct {
	Cosigned int       // checkpoints
	Refused  []Refusal // the first 100 that were refused since the start, after those that made a partition refused before
	More     int       // how many others
	Foreign  int       // checkpoints passed over because they are of streams that were there before those that are witnessed
}

const (
	// maxBatch is how many checkpoints are judged together.
	maxBatch = 4096
	// maxRefused is how many refusals a Summary has.
	maxRefused = 100

	defaultPatience = 30 * time.Second
)

// Witness judges checkpoints. Its Run is called once.
type Witness struct {
	o       Options
	key     attest.WitnessKey // its own
	metrics *metrics
	store   *store
	logs    []*ledger
	summary Summary
}

// ledger is one of the logs.
type ledger struct {
	jetstream.Log
	parts [events.Partitions]*partition
	since time.Time // when the newest checkpoint was cosigned
}

// created is when the stream was made whose checkpoints were cosigned, in Unix nanoseconds; 0: none was.
func (l *ledger) created() int64 {
	for _, p := range l.parts {
		if st := p.last(); st != nil {
			return st.Created
		}
	}
	return 0
}

// New checks the options and returns a witness that has not begun.
func New(o Options) (*Witness, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Patience == 0 {
		o.Patience = defaultPatience
	}
	key, err := attest.ParseWitnessKey(o.Cosigner.Public())
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registry)
	if err != nil {
		return nil, err
	}
	return &Witness{o: o, key: key, metrics: m}, nil
}

// Summary returns what was done. It is called after Run.
func (w *Witness) Summary() Summary { return w.summary }

// Run judges checkpoints until ctx is done, or with Once until all are judged. It returns nil, also when ctx is done, if everything was cosigned;
// ErrRefused if not, ErrLost, ErrDamaged, jetstream.ErrNoStream, or what else has kept it from going on.
func (w *Witness) Run(ctx context.Context) (err error) {
	if w.store, err = openStore(w.o.Dir, w.o.Key, w.key); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.store.close()) }()
	if err := w.load(); err != nil {
		return err
	}
	if err := w.follow(ctx); err != nil && (ctx.Err() == nil || errors.Is(err, ErrLost)) {
		return errors.Join(err, w.verdict())
	}
	return w.verdict()
}

// load takes up what the folder has.
func (w *Witness) load() (err error) {
	for _, log := range jetstream.Logs() {
		l := &ledger{Log: log}
		for i := range l.parts {
			if l.parts[i], err = w.store.load(log.Stream, i); err != nil {
				return err
			}
			if r := l.parts[i].refused; r != nil {
				w.note(r, false)
			}
		}
		w.logs = append(w.logs, l)
	}
	w.report()
	return nil
}

// verdict returns ErrRefused if anything was refused.
func (w *Witness) verdict() error {
	if len(w.summary.Refused) > 0 {
		return ErrRefused
	}
	return nil
}

// published is a message of the stream of checkpoints.
type published struct {
	jetstream.Message
	log       *ledger // nil: its subject is of no log
	partition int
}

// follow reads the stream of checkpoints and judges what it has.
func (w *Witness) follow(ctx context.Context) error {
	now, err := w.o.Client.StreamExtent(ctx, jetstream.Checkpoints)
	if err != nil {
		return err
	}
	if err := w.identify(now); err != nil {
		return err
	}
	last := w.judged()
	if first := max(now.FirstSequence, 1); first > last+1 {
		w.missing(last+1, first-1)
		last = first - 1
	}
	if err := w.judge(ctx, nil, last); err != nil { // what a crash has left to be judged again
		return err
	}
	r, err := w.o.Client.ReadStream(ctx, jetstream.Checkpoints, last+1)
	if err != nil {
		return err
	}
	defer r.Stop()
	for !w.o.Once || last < now.LastSequence {
		if w.o.Once {
			empty, err := w.o.Client.StreamEmptyThrough(ctx, jetstream.Checkpoints, last)
			if err != nil {
				return err
			}
			if empty >= now.LastSequence { // none of those that were last is there any more
				w.missing(last+1, now.LastSequence)
				return w.judge(ctx, nil, now.LastSequence)
			}
		}
		var list []published
		for more := true; more && len(list) < maxBatch; {
			m, err := r.Next(ctx)
			if err != nil {
				return err
			}
			if m.Sequence > last+1 {
				w.missing(last+1, m.Sequence-1)
			}
			last, more = m.Sequence, m.Pending > 0
			list = append(list, w.place(m))
		}
		if err := w.judge(ctx, list, last); err != nil {
			return err
		}
	}
	return nil
}

// identify makes sure that the stream of checkpoints is the one that was judged before.
func (w *Witness) identify(now jetstream.Extent) error {
	id := &w.store.identity
	created := now.Created.UnixNano()
	if id.Checkpoints == created {
		return nil
	}
	if id.Checkpoints != 0 {
		w.refuse(Refusal{Stream: jetstream.Checkpoints, Partition: -1, Reason: Missing, Explanation: fmt.Sprintf("the stream %s that was read before was made at %s; the present one was made at %s: it was deleted and made again, and is judged from its beginning",
			jetstream.Checkpoints, stamp(id.Checkpoints), stamp(created))})
	}
	id.Checkpoints, id.Judged = created, map[string]uint64{}
	return w.store.saveIdentity()
}

// judged returns the number through which all is judged.
func (w *Witness) judged() uint64 {
	least := uint64(1<<64 - 1)
	for _, l := range w.logs {
		least = min(least, w.store.identity.Judged[l.Stream])
	}
	return least
}

// missing notes that checkpoints are gone.
func (w *Witness) missing(first, last uint64) {
	w.refuse(Refusal{Stream: jetstream.Checkpoints, Partition: -1, Reason: Missing, Explanation: fmt.Sprintf("the stream %s no longer has checkpoints %d to %d, which were not judged yet", jetstream.Checkpoints, first, last)})
}

// place finds out by its subject which partition a checkpoint was published for.
func (w *Witness) place(m jetstream.Message) published {
	for _, l := range w.logs {
		for p := range l.parts {
			if jetstream.CheckpointSubject(l.Log, p) == m.Subject {
				return published{m, l, p}
			}
		}
	}
	return published{Message: m}
}

// judge judges checkpoints, which are all through a number that were not judged yet, and stores what comes of it. If one log cannot be read, the
// other one is judged all the same.
func (w *Witness) judge(ctx context.Context, list []published, through uint64) error {
	var errs []error
	for _, p := range list {
		if p.log == nil && p.Sequence > w.judged() {
			w.refuse(Refusal{Stream: jetstream.Checkpoints, Partition: -1, Reason: Misplaced, Number: p.Sequence, Checkpoint: string(p.Data), Explanation: fmt.Sprintf("it came by the subject %q, which is no partition's", p.Subject)})
		}
	}
	for _, l := range w.logs {
		err := w.judgeLog(ctx, l, list)
		if err == nil {
			w.store.identity.Judged[l.Stream] = max(w.store.identity.Judged[l.Stream], through)
		}
		errs = append(errs, err)
	}
	errs = append(errs, w.store.saveIdentity())
	w.report()
	return errors.Join(errs...)
}

// judgeLog judges the checkpoints of one log.
func (w *Witness) judgeLog(ctx context.Context, l *ledger, list []published) error {
	now, err := w.o.Source.State(ctx, l.Log)
	if err != nil {
		return err
	}
	present := now.Created.UnixNano()
	if created := l.created(); created != 0 && created != present {
		for _, p := range l.parts {
			if p.refused == nil {
				w.refuse(Refusal{Stream: l.Stream, Partition: p.number, Reason: OtherStream, Newest: w.newest(p), Explanation: fmt.Sprintf(
					"what was cosigned is of the stream made at %s; the present one was made at %s: it was deleted and made again. To witness the new one, begin a new folder", stamp(created), stamp(present))})
			}
		}
	}
	for i := range list {
		if c := &list[i]; c.log == l && c.Sequence > w.store.identity.Judged[l.Stream] {
			if err := w.admit(l.parts[c.partition], c, present); err != nil {
				return err
			}
		}
	}
	errs := []error{w.walk(ctx, l, now)}
	for _, p := range l.parts {
		if r := p.doom; r != nil && p.refused == nil && errs[0] == nil {
			r.Newest = w.newest(p)
			w.refuse(*r)
		}
	}
	for _, p := range l.parts { // what was judged before an error stays so
		errs = append(errs, w.store.save(p))
	}
	return errors.Join(errs...)
}

// report shows how it stands in the metrics and the health.
func (w *Witness) report() {
	var bad []string
	for _, l := range w.logs {
		n := 0
		for _, p := range l.parts {
			if !p.since.IsZero() && p.since.After(l.since) {
				l.since = p.since
				w.metrics.newest.WithLabelValues(l.Stream).Set(float64(l.since.Unix()))
			}
			if p.refused != nil {
				n++
				bad = append(bad, fmt.Sprintf("partition %d of %s", p.number, l.Stream))
			}
		}
		w.metrics.partitions.WithLabelValues(l.Stream).Set(float64(n))
	}
	if w.o.Health == nil {
		return
	}
	var err error
	if len(bad) > 0 {
		err = fmt.Errorf("%w: refused are %s", ErrRefused, strings.Join(bad, ", "))
	}
	w.o.Health.Set("witness", err)
}
