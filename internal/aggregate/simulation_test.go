package aggregate

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

var (
	simSeeds = flag.Int("sim.seeds", 500, "TestSimulation: how many seeds to run")
	simFirst = flag.Uint64("sim.first", 1, "TestSimulation: the first seed")
)

// The machine against a simulated broker: two or three owners at once, each of which believes that it holds the lease when it
// likes; commits and rejections that are lost, stored and not acknowledged, stored after they were given up, stored twice,
// or torn; answers that come late and out of order; reads from replicas and leaders that lag; owners that die, pause and come
// back. In the end one owner is left alone with a broker that works, and every slot, count and rejection must be what the
// stream folds to. Each seed is a run that repeats exactly. What the whole comes to over many seeds:
//
//	go test ./internal/aggregate -run 'TestSimulation$' -v -sim.seeds 100000
func TestSimulation(t *testing.T) {
	total := simCounts{}
	for seed := *simFirst; seed < *simFirst+uint64(*simSeeds); seed++ {
		w := newWorld(seed)
		if err := w.run(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		total.add(w.counts)
	}
	t.Logf("%d seeds, no violation: %v", *simSeeds, total)
	for _, name := range simFaults {
		if total[name] == 0 && *simSeeds >= 1000 {
			t.Errorf("%q never happened: %v", name, total)
		}
	}
}

// Without the revision that a commit expects, the simulation finds the damage.
func TestSimulationNoticesWhatFencingPrevents(t *testing.T) {
	found := 0
	for seed := range uint64(200) {
		w := newWorld(seed)
		w.unfenced = true
		if w.run() != nil {
			found++
		}
	}
	if found < 5 {
		t.Errorf("damage was found under %d of 200 seeds", found)
	}
}

// simFaults are what a simulation counts; each must happen.
var simFaults = []string{
	"commit stored", "commit in conflict", "commit not stored", "commit lost", "commit stored unacknowledged", "commit stored after it was given up",
	"commit stored twice", "commit torn", "own commit recognised", "rejections stored in part", "rejections unknown",
	"read from a lagging replica", "read from a deposed leader", "read failed", "owner died", "owner paused", "answer came to a paused owner", "owners overlapped", "handed over", "partition passed on idle",
	"reading waited for storing", "signed", "signed unacknowledged", "not signed", "signing in conflict",
}

type simCounts map[string]int

func (c simCounts) add(d simCounts) {
	for name, n := range d {
		c[name] += n
	}
}

func (c simCounts) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c)) {
		fmt.Fprintf(&b, "%s %d; ", name, c[name])
	}
	return strings.TrimSuffix(b.String(), "; ")
}

const simPartition = 3

// simHolders are ids of the partition, in few slots.
var simHolders = func() (ids []string) {
	slots := map[int]bool{}
	for i := 0; len(ids) < 6; i++ {
		id := "holder-" + strconv.Itoa(i)
		if place := events.PlaceOf(id); place.Partition == simPartition && (len(slots) < 4 || slots[place.Slot]) {
			slots[place.Slot] = true
			ids = append(ids, id)
		}
	}
	return ids
}()

// world is a stream, a bucket, and those who own the partition, in simulated time.
type world struct {
	rand     *rand.Rand
	now      time.Time
	agenda   agenda
	order    int
	calm     bool // nothing goes wrong any more
	unfenced bool
	counts   simCounts
	wrong    error // the first violation

	policy   *state.Policy
	created  time.Time
	messages []jetstream.Message
	visible  int // how many of them are published
	metrics  *partitionMetrics

	revision uint64
	values   map[string][]jetstream.Entry // of each key all there ever was, the last one valid
	rejected map[string]jetstream.Rejection
	signed   []attest.Statement          // published, in their order
	says     map[uint64]attest.Statement // by number of messages: what there is to be said
	owners   []*owner
	attempts int
}

// owner is a worker for as long as its process lives.
type owner struct {
	w       *world
	alive   bool
	loaded  bool
	life    int // what was begun in an earlier life finds nobody
	machine *machine[events.HoldEvent, *score.Holders]
	until   time.Time
	turn    bool
	read    int // index of the next message
	paused  time.Time
	wait    *backoff
}

var simMetrics = func() *partitionMetrics {
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		panic(err)
	}
	return m.partition("HOLDS", simPartition)
}()

func newWorld(seed uint64) *world {
	policy := state.DefaultPolicy()
	policy.Score.MaxHolds, policy.MaxProducers = 4, 3
	w := &world{
		rand: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1_700_000_000, 0), counts: simCounts{}, policy: &policy,
		created: time.Unix(1, 2), values: map[string][]jetstream.Entry{}, rejected: map[string]jetstream.Rejection{}, says: map[uint64]attest.Statement{}, metrics: simMetrics,
	}
	w.draw()
	return w
}

func (w *world) chance(percent int) bool { return w.rand.IntN(100) < percent }

// fault tells, while things go wrong, whether this one does, and counts it.
func (w *world) fault(percent int, name string) bool {
	if w.calm || !w.chance(percent) {
		return false
	}
	w.counts[name]++
	return true
}

func (w *world) delay(most time.Duration) time.Duration {
	return time.Duration(w.rand.Int64N(int64(most)))
}

func (w *world) violated(format string, args ...any) {
	if w.wrong == nil {
		w.wrong = fmt.Errorf(format, args...)
	}
}

// draw draws the messages of the partition.
func (w *world) draw() {
	r := w.rand
	at, next := w.now, map[string]uint64{}
	var sent [][]byte
	for i := range 10 + r.IntN(40) {
		at = at.Add(time.Duration(r.Int64N(int64(700 * time.Millisecond))))
		stamp := at
		if r.IntN(12) == 0 {
			stamp = stamp.Add(25 * time.Hour) // the holder's old holds are forgotten, waiting releases refused
			at = stamp
		}
		var data []byte
		switch k := r.IntN(12); {
		case k == 0:
			data = []byte("neither a map nor an envelope")
		case k < 3 && len(sent) > 0:
			data = sent[r.IntN(len(sent))]
		default:
			var o events.Origin
			list := make([]events.HoldEvent, 1+r.IntN(4))
			for j := range list {
				list[j] = w.drawEvent(events.Time(stamp.UnixMilli()))
			}
			if k < 9 {
				o = events.Origin{Producer: string(rune('a' + r.IntN(4))), Epoch: 1 + uint64(r.IntN(2))}
				key := o.Producer + strconv.FormatUint(o.Epoch, 10)
				o.First = next[key] + 1
				if r.IntN(6) == 0 {
					o.First += 2
				}
				next[key] = o.First + uint64(len(list)) - 1
			}
			data = events.AppendHolds(nil, o, list)
		}
		sent = append(sent, data)
		w.messages = append(w.messages, jetstream.Message{Sequence: uint64(3*i + 1 + r.IntN(3)), Time: stamp, Data: data})
	}
}

func (w *world) drawEvent(clock events.Time) events.HoldEvent {
	r := w.rand
	near := func() events.Time { return clock - 3_600_000 + events.Time(r.IntN(3_900_000)) }
	e := events.HoldEvent{
		Kind:  []events.Kind{events.KindHold, events.KindHold, events.KindRelease, events.KindBalance}[r.IntN(4)],
		Token: string(rune('t' + r.IntN(2))), Holder: simHolders[r.IntN(len(simHolders))], End: events.Open,
	}
	if e.Kind != events.KindBalance && r.IntN(2) == 0 {
		e.HoldID = string(rune('x' + r.IntN(3)))
	}
	switch e.Kind {
	case events.KindHold:
		if e.Start = near(); r.IntN(2) == 0 {
			e.End = e.Start + events.Time(r.IntN(4_000_000))
		}
		if e.HoldID != "" {
			e.Rev = uint32(r.IntN(3))
		}
	case events.KindRelease:
		e.Start, e.End = 0, near()
		return e
	case events.KindBalance:
		e.Start = near()
	}
	e.Weight = events.Weight{Lo: r.Uint64N(2_000_000_000)}
	return e
}

// run lets things go wrong for a while, then heals them, and checks what has come of it.
func (w *world) run() error {
	for range 2 + w.rand.IntN(2) {
		o := &owner{w: w}
		w.owners = append(w.owners, o)
		w.after(w.delay(3*time.Second), o.start)
	}
	w.publish()
	w.after(w.delay(2*time.Second), w.disturb)
	end := w.now.Add(25*time.Second + w.delay(10*time.Second))
	for w.now.Before(end) && w.wrong == nil && w.step() {
	}
	w.calm = true
	for _, o := range w.owners {
		o.die()
	}
	w.visible = len(w.messages)
	last := &owner{w: w}
	w.owners = []*owner{last}
	last.start()
	// What was sent before may still arrive.
	end = w.now.Add(5 * time.Minute)
	for w.wrong == nil && !w.settled(last) {
		if w.now.After(end) || !w.step() {
			return fmt.Errorf("the last owner has not stored everything by %s: %+v", w.now, last.machine)
		}
	}
	if w.wrong != nil {
		return w.wrong
	}
	return w.compare()
}

// settled tells whether the last owner has folded and stored everything.
func (w *world) settled(o *owner) bool {
	return o.loaded && o.read == len(w.messages) && o.machine.batch == nil && !o.machine.partition.Moved() && !o.machine.running &&
		o.machine.signing.last.size == uint64(len(w.messages))
}

// publish makes the messages visible, one after the other.
func (w *world) publish() {
	if w.visible == len(w.messages) {
		return
	}
	w.visible++
	for _, o := range w.owners {
		w.after(w.delay(20*time.Millisecond), o.poke)
	}
	w.after(w.delay(time.Second), w.publish)
}

// disturb does something to an owner, and again later.
func (w *world) disturb() {
	if w.calm {
		return
	}
	o := w.owners[w.rand.IntN(len(w.owners))]
	switch w.rand.IntN(6) {
	case 0:
		if o.alive {
			w.counts["owner died"]++
			o.die()
			w.after(w.delay(5*time.Second), o.start)
		}
	case 1:
		if o.alive {
			w.counts["owner paused"]++
			o.paused = w.now.Add(w.delay(8 * time.Second))
			w.after(o.paused.Sub(w.now), o.poke)
		}
	case 2:
		if o.alive && o.loaded {
			w.counts["handed over"]++
			o.machine.stop(w.now)
			o.poke()
		}
	default:
		held := 0
		o.until = w.now.Add(w.delay(6 * time.Second))
		for _, other := range w.owners {
			if other.alive && other.until.After(w.now) {
				held++
			}
		}
		if held > 1 {
			w.counts["owners overlapped"]++
		}
		o.poke()
	}
	w.after(w.delay(1500*time.Millisecond), w.disturb)
}

// start begins a new life.
func (o *owner) start() {
	if o.alive {
		return
	}
	o.alive, o.life, o.paused = true, o.life+1, time.Time{}
	o.until = o.w.now.Add(3 * time.Second)
	if o.w.calm {
		o.until = o.w.now.Add(time.Hour)
	}
	o.wait = &backoff{firstPause, o.w.delay}
	o.load()
}

func (o *owner) die() { o.alive, o.loaded, o.machine, o.life = false, false, nil, o.life+1 }

// load is the worker's, in simulated time.
func (o *owner) load() {
	w, life := o.w, o.life
	p, revision, err := state.Load(context.Background(), state.Holds, w.policy, simPartition, simStream{w}, simBucket{w})
	if err != nil {
		if w.calm {
			w.violated("cannot be loaded: %w", err)
		}
		w.after(o.wait.pause(), o.ifAlive(life, o.load))
		return
	}
	o.loaded, o.turn = true, false
	o.machine = newMachine(p, revision, limits{staleness: time.Second, drain: 2 * time.Second, idle: 10 * time.Second, unstored: simUnstored}, w.attempt,
		func() *backoff { return &backoff{firstPause, w.delay} }, w.metrics, &signing{every: 3 * time.Second, last: w.lastSigned(), wait: &backoff{firstPause, w.delay}}, w.now)
	o.read, _ = slices.BinarySearchFunc(w.messages, p.Sequence+1, func(m jetstream.Message, s uint64) int { return cmp.Compare(m.Sequence, s) })
	o.poke()
}

func (w *world) attempt() string { w.attempts++; return strconv.Itoa(w.attempts) }

func (o *owner) ifAlive(life int, do func()) func() {
	return func() {
		if o.alive && o.life == life {
			do()
		}
	}
}

// poke takes the machine's next steps, until it has to wait.
func (o *owner) poke() {
	w := o.w
	for o.alive && o.loaded {
		if w.now.Before(o.paused) {
			return // poked again when it goes on
		}
		s := o.machine.next(w.now, o.until, o.turn)
		switch {
		case s.ended:
			o.ended(s.err)
			return
		case s.begin != nil:
			if s.begin.ask == nil && s.begin.publish == nil && !w.now.Before(o.until) {
				w.violated("an owner stores without the lease")
			}
			o.begin(s.begin)
			continue
		case s.turn != o.turn:
			o.turn = s.turn
			continue
		case s.read && o.read < w.visible && !w.fault(10, "reading waits"):
			o.machine.message(w.now, w.messages[o.read])
			o.read++
			w.checkUnstored(o)
			continue
		case !s.read && o.read < w.visible && o.unstored() >= simUnstored:
			w.counts["reading waited for storing"]++
		}
		if !s.wake.IsZero() {
			w.after(max(time.Microsecond, s.wake.Sub(w.now)), o.ifAlive(o.life, o.poke))
		}
		if s.read && o.read < w.visible {
			w.after(w.delay(50*time.Millisecond)+1, o.ifAlive(o.life, o.poke))
		}
		return
	}
}

// simUnstored is how many bytes of messages an owner may have folded and not stored when it reads another one.
const simUnstored = 600

// unstored is the bytes of the messages that an owner has folded since it loaded and does not know to be stored, counted by themselves.
func (o *owner) unstored() int {
	n := 0
	for _, m := range o.w.messages[:o.read] {
		if m.Sequence > o.machine.through {
			n += len(m.Data)
		}
	}
	return n
}

// checkUnstored makes sure that reading waits for storing: only the message just read may lie beyond the bound.
func (w *world) checkUnstored(o *owner) {
	before := o.unstored() - len(w.messages[o.read-1].Data)
	if before >= simUnstored {
		w.violated("an owner has read on with %d bytes folded and not stored", before)
	}
}

// ended begins anew, as a worker would or the next owner.
func (o *owner) ended(err error) {
	w := o.w
	if w.calm && err != nil {
		w.counts["reloads in the end"]++
		if w.counts["reloads in the end"] > 5 {
			w.violated("the last owner must load again and again: %w", err)
		}
	}
	o.loaded, o.machine = false, nil
	w.after(o.wait.pause(), o.ifAlive(o.life, o.load))
}

// begin carries out an operation: it has its effect some time from now, and its outcome arrives some time from now.
func (o *owner) begin(op *operation) {
	w, life, m := o.w, o.life, o.machine
	effect, answer := w.delay(60*time.Millisecond), w.delay(60*time.Millisecond)
	deliver := func(out outcome) {
		var arrived func()
		arrived = o.ifAlive(life, func() {
			if o.machine != m {
				return // loaded again meanwhile
			}
			if w.now.Before(o.paused) {
				w.counts["answer came to a paused owner"]++
				w.after(o.paused.Sub(w.now), arrived)
				return
			}
			confirming := m.batch != nil && m.batch.stage == confirming
			m.done(w.now, out)
			if confirming && m.batch == nil && !m.ended {
				w.counts["own commit recognised"]++
			}
			o.poke()
		})
		w.after(answer, arrived)
	}
	switch {
	case op.reject != nil:
		w.arrive(effect, func() { deliver(outcome{err: w.storeRejections(op.reject)}) })
	case op.commit != nil:
		o.beginCommit(op.commit, effect, deliver)
	case op.publish != nil:
		w.arrive(effect, func() { deliver(w.publishSigned(op.publish)) })
	case op.ask != nil:
		w.arrive(effect, func() { deliver(w.emptyThrough(*op.ask)) })
	default:
		w.arrive(effect, func() {
			entry, err := simBucket{w}.Get(context.Background(), op.confirm)
			deliver(outcome{entry: entry, err: err})
		})
	}
}

var errSimulated = errors.New("simulated")

func (o *owner) beginCommit(c *commit, effect time.Duration, deliver func(outcome)) {
	w := o.w
	switch {
	case w.fault(5, "commit not stored"):
		deliver(outcome{err: jetstream.ErrNotStored})
	case w.fault(5, "commit lost"):
		deliver(outcome{err: jetstream.ErrUnknownOutcome})
	case w.fault(5, "commit stored after it was given up"):
		w.arrive(effect+w.delay(5*time.Second), func() { w.commit(c, len(c.puts)) })
		deliver(outcome{err: jetstream.ErrUnknownOutcome})
	case w.fault(8, "commit stored unacknowledged"):
		w.arrive(effect, func() { w.commit(c, len(c.puts)); deliver(outcome{err: jetstream.ErrUnknownOutcome}) })
	case w.fault(5, "commit torn"):
		w.arrive(effect, func() { w.commit(c, w.rand.IntN(len(c.puts))); deliver(outcome{err: jetstream.ErrUnknownOutcome}) })
	default:
		w.arrive(effect, func() {
			revision, err := w.commit(c, len(c.puts))
			if w.fault(5, "commit stored twice") {
				w.arrive(w.delay(3*time.Second), func() { w.commit(c, len(c.puts)) })
			}
			deliver(outcome{revision: revision, err: err})
		})
	}
}

// commit is what the broker does with a batch: all of it if the guard's revision is as expected, or, torn, a part.
func (w *world) commit(c *commit, n int) (uint64, error) {
	guard := c.puts[len(c.puts)-1].Key
	if now := w.last(guard).Revision; now != c.guard && !w.unfenced {
		w.counts["commit in conflict"]++
		return 0, fmt.Errorf("%w: %d, not %d", jetstream.ErrConflict, now, c.guard)
	}
	for _, p := range c.puts[:n] {
		w.revision++
		w.values[p.Key] = append(w.values[p.Key], jetstream.Entry{Key: p.Key, Value: p.Value, Revision: w.revision})
	}
	if n == len(c.puts) {
		w.counts["commit stored"]++
		w.checkAdvance(guard)
	}
	return w.revision, nil
}

// checkAdvance makes sure that checkpoints never go back.
func (w *world) checkAdvance(key string) {
	all := w.values[key]
	now, err := state.DecodeCheckpoint(key, all[len(all)-1].Value)
	if err != nil {
		w.violated("a checkpoint was stored that cannot be read: %w", err)
		return
	}
	if len(all) > 1 && !w.unfenced {
		before, _ := state.DecodeCheckpoint(key, all[len(all)-2].Value)
		if now.Sequence < before.Sequence || now.Flushes != before.Flushes+1 {
			w.violated("checkpoint %d (flush %d) was stored over %d (flush %d)", now.Sequence, now.Flushes, before.Sequence, before.Flushes)
		}
	}
}

// last is a key's present entry.
func (w *world) last(key string) jetstream.Entry {
	if all := w.values[key]; len(all) > 0 {
		return all[len(all)-1]
	}
	return jetstream.Entry{}
}

func (w *world) storeRejections(list []jetstream.Rejection) error {
	n, err := len(list), error(nil)
	switch {
	case w.fault(8, "rejections stored in part"):
		n, err = w.rand.IntN(len(list)), jetstream.ErrNotStored
	case w.fault(8, "rejections unknown"):
		err = jetstream.ErrUnknownOutcome
	}
	for _, r := range list[:n] {
		if before, there := w.rejected[r.Subject()]; there {
			if diff := gocmp.Diff(before, r); diff != "" {
				w.violated("the rejection %s was different before:\n%s", r.Subject(), diff)
			}
		}
		w.rejected[r.Subject()] = r
	}
	return err
}

// lastSigned is what is known of the newest signed checkpoint.
func (w *world) lastSigned() signed {
	n := len(w.signed)
	if n == 0 {
		return signed{}
	}
	return signed{uint64(n), w.signed[n-1].Size, w.signed[n-1].Root}
}

// publishSigned is what the broker and the worker's I/O do with a publication.
func (w *world) publishSigned(p *publication) outcome {
	if w.fault(10, "not signed") {
		return outcome{err: jetstream.ErrUnknownOutcome}
	}
	last := w.lastSigned()
	switch {
	case last.revision != p.after && last.size == p.statement.Size && last.root == p.statement.Root:
		return outcome{revision: last.revision}
	case last.revision != p.after:
		w.counts["signing in conflict"]++
		return outcome{err: jetstream.ErrConflict, signed: last}
	case p.statement.Size <= last.size:
		w.violated("%d messages were signed behind %d", p.statement.Size, last.size)
	}
	w.counts["signed"]++
	w.signed = append(w.signed, *p.statement)
	if w.fault(20, "signed unacknowledged") {
		return outcome{err: jetstream.ErrUnknownOutcome}
	}
	return outcome{revision: uint64(len(w.signed))}
}

func (w *world) emptyThrough(after uint64) outcome {
	end := uint64(1000)
	for _, m := range w.messages {
		if m.Sequence > after {
			end = m.Sequence - 1
			break
		}
	}
	if w.visible < len(w.messages) {
		end = min(end, w.messages[w.visible].Sequence-1) // the stream ends here as yet
	}
	if end > after {
		w.counts["partition passed on idle"]++
	}
	return outcome{through: end}
}

// compare holds what is stored against what the stream folds to.
func (w *world) compare() error {
	p, _, err := state.Load(context.Background(), state.Holds, w.policy, simPartition, simStream{w}, simBucket{w})
	if err != nil {
		return err
	}
	straight := state.NewPartition(state.Holds, w.policy, w.created, simPartition)
	rejected := map[string]jetstream.Rejection{}
	for _, m := range w.messages {
		for _, r := range straight.Fold(state.Message{Sequence: m.Sequence, Time: m.Time, Data: m.Data}, nil) {
			rejected[r.Subject()] = r
		}
		s, _ := straight.Statement()
		w.says[s.Size] = s
	}
	for _, s := range w.signed {
		if diff := gocmp.Diff(w.says[s.Size], s); diff != "" {
			return fmt.Errorf("what was signed is not what the stream comes to (-folded +signed):\n%s", diff)
		}
	}
	if diff := gocmp.Diff(contents(straight), contents(p)); diff != "" {
		return fmt.Errorf("stored is not what the stream folds to (-folded +stored):\n%s", diff)
	}
	if diff := gocmp.Diff(rejected, w.rejected); diff != "" {
		return fmt.Errorf("the rejections (-folded +stored):\n%s", diff)
	}
	return nil
}

// contents is all that a partition comes to, but not by how many flushes.
func contents(p *state.Partition[events.HoldEvent, *score.Holders]) map[string]string {
	c := p.Checkpoint
	m := map[string]string{"checkpoint": fmt.Sprint(c.Clock, c.LastSequence, c.Messages(), c.Duplicates, c.Producers(), c.Tally)}
	for _, name := range []string{"a", "b", "c", "d"} {
		m["producer "+name] = fmt.Sprint(c.Numbered(name))
	}
	for i, s := range p.Slots() {
		m["slot "+strconv.Itoa(i)] = fmt.Sprint(s.Tally, s.Content.Append(nil))
	}
	return m
}

// simStream and simBucket are what loading reads. While it does, what is under way takes effect.
type simStream struct{ w *world }

func (s simStream) StreamState(context.Context, jetstream.Log) (jetstream.State, error) {
	w := s.w
	if w.fault(3, "read failed") {
		return jetstream.State{}, errSimulated
	}
	visible := w.visible
	if w.fault(3, "read from a deposed leader") {
		visible = w.rand.IntN(visible + 1)
	}
	st := jetstream.State{Created: w.created, FirstSequence: 1}
	switch {
	case visible == len(w.messages):
		st.LastSequence = 1000
	case visible > 0:
		st.LastSequence = w.messages[visible].Sequence - 1
	}
	return st, nil
}

func (s simStream) Message(_ context.Context, _ string, sequence uint64) (jetstream.Message, error) {
	for _, m := range s.w.messages[:s.w.visible] {
		if m.Sequence == sequence {
			return m, nil
		}
	}
	return jetstream.Message{}, jetstream.ErrSequenceNotFound
}

type simBucket struct{ w *world }

func (b simBucket) Get(_ context.Context, key string) (jetstream.Entry, error) {
	w := b.w
	w.effects()
	if w.fault(3, "read failed") {
		return jetstream.Entry{}, errSimulated
	}
	all := w.values[key]
	if len(all) > 1 && w.fault(3, "read from a deposed leader") {
		return all[w.rand.IntN(len(all))], nil
	}
	if len(all) == 0 {
		return jetstream.Entry{}, jetstream.ErrKeyNotFound
	}
	return all[len(all)-1], nil
}

func (b simBucket) Load(_ context.Context, filter string) ([]jetstream.Entry, error) {
	w := b.w
	w.effects()
	if w.fault(3, "read failed") {
		return nil, errSimulated
	}
	upTo := w.revision
	if w.fault(10, "read from a lagging replica") {
		upTo = w.rand.Uint64N(upTo + 1)
	}
	var list []jetstream.Entry
	for _, key := range slices.Sorted(maps.Keys(w.values)) {
		if !strings.HasPrefix(key, strings.TrimSuffix(filter, "*")) {
			continue
		}
		all := w.values[key]
		for i := len(all) - 1; i >= 0; i-- {
			if all[i].Revision <= upTo {
				list = append(list, all[i])
				break
			}
		}
	}
	return list, nil
}

// item is something that happens at a time.
type item struct {
	at     time.Time
	order  int
	effect bool // on the broker, of what was sent before
	happen func()
}

// agenda is a heap of what is to happen.
type agenda []item

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	if c := a[i].at.Compare(a[j].at); c != 0 {
		return c < 0
	}
	return a[i].order < a[j].order
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(item)) }
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

func (w *world) after(d time.Duration, happen func()) {
	w.order++
	heap.Push(&w.agenda, item{w.now.Add(d), w.order, false, happen})
}

// arrive has what was sent take effect on the broker.
func (w *world) arrive(d time.Duration, happen func()) {
	w.order++
	heap.Push(&w.agenda, item{w.now.Add(d), w.order, true, happen})
}

// effects has, at times, some of what is under way take effect at this moment.
func (w *world) effects() {
	for i := 0; i < len(w.agenda); i++ {
		if w.agenda[i].effect && w.fault(20, "effect while loading") {
			heap.Remove(&w.agenda, i).(item).happen()
			return
		}
	}
}

// step lets the next thing happen.
func (w *world) step() bool {
	if len(w.agenda) == 0 {
		return false
	}
	next := heap.Pop(&w.agenda).(item)
	if next.at.After(w.now) {
		w.now = next.at
	}
	next.happen()
	return true
}
