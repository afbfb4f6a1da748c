package client

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
)

// DefaultMaxHolds is how many holds a [Tracker] remembers.
const DefaultMaxHolds = 100_000

const (
	// trackBatch is how many statements are sent at once, and trackPart of how many that the client may have in memory they are one.
	trackBatch = 1000
	trackPart  = 8

	// trackPause is between attempts at sending.
	trackPause = time.Second
)

// TrackerOptions configure a [Tracker].
type TrackerOptions struct {
	// Folder is where the journal of open holds is kept. It is made if it is missing, and belongs to one process at a time; it may be the folder of the
	// client. It is required.
	Folder string
	// MaxHolds is how many holds and balances may be open or not yet acknowledged; beyond it [Tracker.Start] and [Tracker.SetBalance] return
	// [ErrOverflow]. 0 means DefaultMaxHolds.
	MaxHolds int
	// Logger is told what an operator should know. Nil discards.
	Logger *slog.Logger

	now func() time.Time // nil means time.Now
}

// Tracker states holds as they begin and end, and knows after a restart which are open. It is safe for concurrent use.
//
//	t, err := client.NewTracker(c, client.TrackerOptions{Folder: "/var/lib/till/holds"})
//	for _, h := range t.Open() { … } // of before the restart: go on, stop them, or leave them to the TTL
//	h, err := t.Start(ctx, "gold", "alice", weight)
//	err = h.Stop(ctx)
//
// Whatever it has returned from without an error is in its journal, on the disk, and is sent to the stream until that has it; after a crash what is not
// known to be stored is sent again, which changes nothing if it was. Every hold has an id of its own for that. The fold knows ids for 24 hours
// after the last word on a hold that has ended, so of one that ended 23 hours before a restart, and whose start was not known to be stored by then, only the end is sent
// again; it is refused, where it can be seen, if the stream never had the start.
//
// Instants are those of this machine's clock, in milliseconds. Of one token and holder they never go back: while the clock is behind what was stated last,
// the last instant is stated again; a clock that is over 5 minutes behind is refused, as start_ahead, for what begins.
type Tracker struct {
	client  *Client
	options TrackerOptions
	journal *journal
	close   func() error // of the folder

	stop context.CancelFunc
	done chan struct{} // closed when nothing is sent any more

	mu      sync.Mutex
	queue   []statement    // to be sent; guarded by mu
	pairs   map[pair]*turn // guarded by mu
	room    int            // how much more may be remembered; guarded by mu
	pending int            // statements not acknowledged; guarded by mu
	closed  bool           // guarded by mu
	wake    chan struct{}  // has room for one call
	idle    chan struct{}  // has room for one call: pending has become 0
	stating sync.WaitGroup // statements under way; one is added only under mu, while closed is not set
	ended   sync.Once
	result  error
}

// turn lets one statement of a pair be made at a time, so that instants and their order agree.
type turn struct {
	mu    sync.Mutex
	users int // guarded by the tracker's mu
}

// TrackedHold is a hold that a [Tracker] has started. Its fields do not change.
type TrackedHold struct {
	ID            string
	Token, Holder string
	Weight        events.Weight
	Start         events.Time

	tracker *Tracker
}

// NewTracker opens the journal and sends, in the background, what is not known to be stored. The client must stay open until the tracker is
// closed. The errors are those of the folder: it cannot be used, another process has it, or its journal is [ErrDamaged].
func NewTracker(c *Client, o TrackerOptions) (*Tracker, error) {
	if o.Folder == "" {
		return nil, errors.New("open the tracker: Folder is empty: name a folder for the journal of open holds")
	}
	f, err := openFolder(o.Folder, trackerLockName)
	if err != nil {
		return nil, fmt.Errorf("open the tracker: %w", err)
	}
	t, err := newTracker(c, o, journalFolder{f}, f.close)
	if err != nil {
		return nil, fmt.Errorf("open the tracker: %w", errors.Join(err, f.close()))
	}
	return t, nil
}

func newTracker(c *Client, o TrackerOptions, d journalDisk, closeFolder func() error) (*Tracker, error) {
	if o.MaxHolds < 0 {
		return nil, fmt.Errorf("MaxHolds is %d: it must be positive", o.MaxHolds)
	}
	if o.MaxHolds == 0 {
		o.MaxHolds = DefaultMaxHolds
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.now == nil {
		o.now = time.Now
	}
	t := &Tracker{
		client: c, options: o, close: closeFolder, done: make(chan struct{}),
		pairs: map[pair]*turn{}, wake: make(chan struct{}, 1), idle: make(chan struct{}, 1),
	}
	var err error
	if t.journal, err = openJournal(d, t.now); err != nil {
		return nil, fmt.Errorf("the journal (file %s of the folder): %w", journalName, err)
	}
	state := t.journal.state
	t.queue = state.unsent(t.now())
	t.pending = len(t.queue)
	t.room = o.MaxHolds - len(state.holds) - len(state.balances)
	for _, h := range state.holds {
		if !h.stored && h.end != events.Open && h.end <= t.now()-idsAreKnown {
			o.Logger.Warn("of a hold that ended long ago only the end is sent again; see whether the stream has it", "hold_id", h.id, "holder", h.pair.holder, "token", h.pair.token)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	t.stop = stop
	go t.send(ctx)
	return t, nil
}

func (t *Tracker) now() events.Time { return events.Time(t.options.now().UnixMilli()) }

// Start states that the holder holds the token from now on, with that weight (see [events.ParseWeight]). When it returns without an error the hold
// is in the journal, and will be in the stream.
//
// The errors are a *events.Refusal for what cannot be stated, [ErrOverflow], [ErrClosed], and those of the disk. After an error nothing is started; only if the process
// dies before anything else is stated, a hold whose writing failed may be among the open ones after the restart. The end of ctx keeps it from beginning; what it has begun it ends.
func (t *Tracker) Start(ctx context.Context, token, holder string, weight events.Weight) (*TrackedHold, error) {
	h := &TrackedHold{ID: rand.Text(), Token: strings.Clone(token), Holder: strings.Clone(holder), Weight: weight, tracker: t}
	err := t.declare(ctx, pair{h.Token, h.Holder}, true, func(at events.Time) (events.HoldEvent, word, bool) {
		h.Start = at
		w := word{kind: wordStart, id: h.ID, pair: pair{h.Token, h.Holder}, at: at, weight: weight}
		return (&held{id: h.ID, pair: w.pair, start: at, weight: weight}).started(), w, true
	})
	if err != nil {
		return nil, fmt.Errorf("start a hold: %w", err)
	}
	return h, nil
}

// Stop states that the hold ends now. It may be called again: the first end counts. The errors are those of [Tracker.Start]; after one
// the hold is still open.
func (h *TrackedHold) Stop(ctx context.Context) error {
	t, p := h.tracker, pair{h.Token, h.Holder}
	err := t.declare(ctx, p, false, func(at events.Time) (events.HoldEvent, word, bool) {
		at = max(at, h.Start)
		open := t.journal.open(h.ID)
		return (&held{id: h.ID, pair: p, end: at}).stopped(), word{kind: wordStop, id: h.ID, at: at}, open
	})
	if err != nil {
		return fmt.Errorf("stop a hold: %w", err)
	}
	return nil
}

// SetBalance states that from now on the holder's balance of the token is weight; 0 ends it. The errors are those of [Tracker.Start].
func (t *Tracker) SetBalance(ctx context.Context, token, holder string, weight events.Weight) error {
	p := pair{strings.Clone(token), strings.Clone(holder)}
	err := t.declare(ctx, p, true, func(at events.Time) (events.HoldEvent, word, bool) {
		return balanceEvent(p, at, weight), word{kind: wordBalance, pair: p, at: at, weight: weight}, true
	})
	if err != nil {
		return fmt.Errorf("set a balance: %w", err)
	}
	return nil
}

// Open returns the holds that were started and not stopped, those of before a restart included, in the order in which they were started.
func (t *Tracker) Open() []*TrackedHold {
	j := t.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	var list []*TrackedHold
	for _, h := range j.state.holds {
		if h.end == events.Open {
			list = append(list, &TrackedHold{ID: h.id, Token: h.pair.token, Holder: h.pair.holder, Weight: h.weight, Start: h.start, tracker: t})
		}
	}
	slices.SortFunc(list, func(a, b *TrackedHold) int {
		return cmp.Compare(j.state.holds[a.ID].order, j.state.holds[b.ID].order)
	})
	return list
}

// open tells whether a hold is known and has not ended.
func (j *journal) open(id string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	h := j.state.holds[id]
	return h != nil && h.end == events.Open
}

// declare makes a statement of a pair: what of makes of the instant, unless it says that nothing is to be stated.
func (t *Tracker) declare(ctx context.Context, p pair, fresh bool, of func(at events.Time) (events.HoldEvent, word, bool)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	turn, err := t.begin(p, fresh)
	if err != nil {
		return err
	}
	turn.mu.Lock()
	said := false
	defer func() { t.finish(p, turn, fresh && !said) }()
	defer turn.mu.Unlock()

	now := t.now()
	t.journal.mu.Lock()
	at := t.journal.state.instant(p, now)
	t.journal.mu.Unlock()
	e, w, needed := of(at)
	if !needed {
		return nil
	}
	if err := e.Validate(); err != nil {
		return err
	}
	if err := e.CheckAhead(now); err != nil {
		return err
	}
	if err := t.journal.say(w); err != nil {
		return err
	}
	said = true
	t.mu.Lock()
	t.queue = append(t.queue, statement{event: e})
	t.pending++
	t.mu.Unlock()
	call(t.wake)
	return nil
}

// begin takes a turn at a pair, and room for one more thing to remember if it is fresh.
func (t *Tracker) begin(p pair, fresh bool) (*turn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return nil, ErrClosed
	case fresh && t.room <= 0:
		return nil, fmt.Errorf("%w: the tracker remembers %d holds and balances, the most that MaxHolds permits", ErrOverflow, t.options.MaxHolds)
	}
	if fresh {
		t.room--
	}
	x := t.pairs[p]
	if x == nil {
		x = &turn{}
		t.pairs[p] = x
	}
	x.users++
	t.stating.Add(1)
	return x, nil
}

func (t *Tracker) finish(p pair, x *turn, roomBack bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if roomBack {
		t.room++
	}
	if x.users--; x.users == 0 {
		delete(t.pairs, p)
	}
	t.stating.Done()
}

// send sends what is queued, a batch at a time, until ctx is done.
func (t *Tracker) send(ctx context.Context) {
	defer close(t.done)
	var mentioned time.Time
	for {
		batch := t.next()
		if len(batch) == 0 {
			select {
			case <-t.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		for {
			err := t.deliver(ctx, batch)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return
			}
			if time.Since(mentioned) >= remindEvery {
				mentioned = time.Now()
				t.options.Logger.Warn("what the tracker states is not stored yet; it is tried again", "error", err)
			}
			if !paused(ctx, trackPause) {
				return
			}
		}
	}
}

// next takes a batch off the queue. It is short beside the client's room, of which others get nothing while the batch waits for its own.
func (t *Tracker) next() []events.HoldEvent {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := min(len(t.queue), trackBatch, max(t.client.options.MaxPending/trackPart, 1))
	batch := make([]events.HoldEvent, n)
	for i := range batch {
		batch[i] = t.queue[i].event
	}
	t.queue = t.queue[n:]
	return batch
}

// deliver sends a batch, waits until the stream has it, and says so in the journal. That this fails does not matter: it is sent again some day.
func (t *Tracker) deliver(ctx context.Context, batch []events.HoldEvent) error {
	// They were checked when they were stated. They wait in line, so that the client's other events do not keep them out.
	receipt, err := t.client.holds.send(ctx, batch, Block)
	if err != nil {
		return err
	}
	if err := receipt.Wait(ctx); err != nil {
		return err
	}
	words := make([]word, len(batch))
	for i := range batch {
		words[i] = storedWord(&batch[i])
	}
	if err := t.journal.say(words...); err != nil {
		t.options.Logger.Warn("the journal of holds could not be written; what is stored is sent again after a restart", "error", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending -= len(batch)
	for i := range batch {
		if batch[i].Kind != events.KindHold { // an open hold is remembered
			t.room++
		}
	}
	if t.pending == 0 {
		call(t.idle)
	}
	return nil
}

// Close takes no more statements and waits until what was stated is stored, or ctx is done; what is not by then is in the journal, and the next
// tracker sends it, which is no error. It is called before the client's.
func (t *Tracker) Close(ctx context.Context) error {
	t.ended.Do(func() {
		t.mu.Lock()
		t.closed = true
		t.mu.Unlock()
		t.stating.Wait()
		t.mu.Lock()
		left := t.pending
		t.mu.Unlock()
		for left > 0 && ctx.Err() == nil {
			select {
			case <-t.idle:
				t.mu.Lock()
				left = t.pending
				t.mu.Unlock()
			case <-ctx.Done():
			}
		}
		t.stop()
		<-t.done
		t.journal.mu.Lock()
		defer t.journal.mu.Unlock()
		t.journal.drop()
		t.result = t.close()
	})
	return t.result
}
