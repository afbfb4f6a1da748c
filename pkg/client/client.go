// Package client is what a producer of events embeds: it numbers, batches and publishes them, so that each event counts
// once however often it had to be sent.
//
//	c, err := client.Open(ctx, client.Options{
//		NATS: jetstream.Options{URL: "nats://nats:4222"},
//		Name: "till-7", Keep: client.Folder("/var/lib/till/holdfast"),
//	})
//	err = c.Hold(ctx, events.HoldEvent{ // queued; sent in the background, in order
//		Kind: events.KindHold, Token: "gold", Holder: "alice", Weight: weight, HoldID: "h1",
//		Start: events.TimeOf(time.Now()), End: events.Open,
//	})
//	err = c.Flush(ctx) // all of it is stored
//	err = c.Close(ctx) // drains
//
// A [Client] never crashes its application, and never blocks it unless it is asked to. It connects by itself, and again. While NATS does not
// acknowledge, envelopes go to a bounded file, the spool, and are sent later in order. What is over the bounds is not taken, and
// the caller is told so: it waits, or gets [ErrOverflow], as it chose.
//
// Below it is the [Publisher], for who connects, claims and keeps by other means. It splits events by partition. Each partition has one
// envelope under way at a time; what is queued by the time it is acknowledged forms the next, so envelopes grow with the load and nothing
// waits for a timer, unless [Options].Linger says so.
//
// # Exactly once
//
// The events of a producer carry numbers, one sequence for each partition, without gaps. An envelope that was not
// acknowledged, for whatever reason, is sent again with the same events under the same numbers until it is, and the
// fold skips numbers that it has. For this to hold across restarts, a name and epoch must go on with the numbers that
// follow those used before. A client keeps them in a folder or a bucket ([Folder], [Bucket]) when it is closed with everything acknowledged. After a
// crash it takes a higher epoch of its name, whose numbers start at 1, and sends what the spool has of the lower one before anything of the
// higher. The name is claimed ([Claim]), so that no two processes have it.
//
// What was taken and was neither acknowledged nor spooled goes with the process when that crashes. Who cannot bear this waits for the
// [Receipt] of a send, or for a flush.
//
// An account for a client may publish to hold.>, poh.>, $KV.PRODUCERS.> and $JS.API.STREAM.MSG.GET.KV_PRODUCERS, and subscribe to its inbox.
package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
)

// Numbers has a number for each partition of a log.
type Numbers [jetstream.Partitions]uint64

// openPatience is how long Open waits for NATS.
const openPatience = 2 * time.Second

// clockPause is how long the clock that starts are held against may be behind that of the machine, or ahead of it after that was set back.
const clockPause = time.Second

// Client takes events and publishes them in the background, each once in effect. It is safe for concurrent use.
type Client struct {
	options Options
	log     *slog.Logger
	holds   *Publisher[events.HoldEvent]
	poh     *Publisher[events.PoHEvent]
	folder  disk         // nil with Bucket
	unlock  func() error // of the folder
	spool   *spool       // nil: there is none

	name    atomic.Pointer[string]
	epoch   atomic.Uint64
	claim   atomic.Pointer[NameClaim]        // nil while none is held
	turn    atomic.Uint64                    // the epoch up to which what is inherited may be sent
	ready   atomic.Bool                      // nothing inherited is left, so new events may be sent
	failed  atomic.Pointer[error]            // why nothing is taken at present
	nats    atomic.Pointer[jetstream.Client] // nil until there is a connection
	clock   atomic.Int64                     // Unix milliseconds, looked at every clockPause
	refused atomic.Uint64

	outcome chan error         // what the first attempt at connecting and claiming came to; nil also if it is not known yet
	stop    context.CancelFunc // ends taking
	end     context.CancelFunc // ends keeping
	work    sync.WaitGroup     // the publishers
	ended   chan struct{}      // closed when nothing is kept any more
	left    [2]error           // what the publishers came to; read after work
	kept    kept               // owned by keep, and by Close when that has ended
	numbers *numbersKey        // with Bucket, once a name is claimed; owned by keep, and by Close when that has ended

	mu     sync.Mutex
	drain  context.Context // that of Close; nil before; guarded by mu
	closed sync.Once
	result error // of Close; written once under closed
}

// Open checks the options, opens the folder and what is in it, and begins to publish in the background. It waits up to 2 s for NATS; that no
// server answers is no error, and is tried on and on.
//
// The errors are those of wrong options and of what they name: credentials that are refused, a folder that another process has, kept files that
// are damaged ([ErrDamaged]), and, if NATS answers in time, [ErrNameTaken]. The end of ctx concerns Open alone.
func Open(ctx context.Context, o Options) (*Client, error) {
	c, err := open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open the client: %w", err)
	}
	return c, nil
}

func open(ctx context.Context, o Options) (*Client, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if !o.Keep.inFolder() {
		return start(ctx, o, nil, nil)
	}
	f, err := openFolder(o.Keep.folder, lockName)
	if err != nil {
		return nil, err
	}
	c, err := start(ctx, o, f, f.close)
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return c, nil
}

// start makes a client that keeps what it must on a disk, or in the bucket if that is nil, and sets it going.
func start(ctx context.Context, o Options, d disk, unlock func() error) (*Client, error) {
	c := &Client{
		options: o, log: o.Logger, folder: d, unlock: unlock,
		holds: newPublisher[events.HoldEvent](o.publisher()), poh: newPublisher[events.PoHEvent](o.publisher()),
		outcome: make(chan error, 1), ended: make(chan struct{}),
	}
	c.holds.permission, c.poh.permission = c.may, c.may
	c.name.Store(&o.Name)
	c.clock.Store(time.Now().UnixMilli())
	if d != nil {
		if err := c.resume(); err != nil {
			return nil, err
		}
	}
	taking, stop := context.WithCancel(context.WithoutCancel(ctx))
	keeping, end := context.WithCancel(context.WithoutCancel(ctx))
	c.stop, c.end = stop, end
	c.work.Go(func() { c.left[0] = c.watched(c.holds.run(taking, c.draining)) })
	c.work.Go(func() { c.left[1] = c.watched(c.poh.run(taking, c.draining)) })
	go c.keep(keeping)
	go c.watchClock(keeping)

	patience := time.NewTimer(openPatience)
	defer patience.Stop()
	var err error
	select {
	case err = <-c.outcome:
	case <-patience.C:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		c.unlock = nil // it is the caller's
		gone, cancel := context.WithCancel(ctx)
		cancel()
		return nil, errors.Join(err, c.Close(gone))
	}
	return c, nil
}

// watched notes that a publisher ended by itself.
func (c *Client) watched(err error) error {
	if err != nil && errors.Is(err, nats.ErrConnectionClosed) {
		c.fail(fmt.Errorf("%w: the connection was closed, which a client cannot go on without: close the client first", nats.ErrConnectionClosed))
	}
	return err
}

// draining returns the context of Close, which is why publishers go on with what they have; before Close it is over at once.
func (c *Client) draining() (context.Context, context.CancelFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drain != nil {
		return context.WithCancel(c.drain)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(nats.ErrConnectionClosed)
	return ctx, func() {}
}

// may tells whether something may be published now.
func (c *Client) may(inherited *estate) bool {
	claim := c.claim.Load()
	return claim != nil && claim.Held() && (c.ready.Load() || inherited != nil && inherited.epoch <= c.turn.Load())
}

// Hold queues one event of the log of holds; it is sent in the background. Events of a holder are stored in the order in which they were taken.
//
// The errors are a *events.Refusal if the event breaks a rule, a start over 5 minutes ahead of the clock of this machine included; [ErrOverflow] or the cause of ctx if
// there is no room; [ErrNameTaken] and [ErrClosed]. After an error the event was not taken.
func (c *Client) Hold(ctx context.Context, e events.HoldEvent) error {
	if err := c.checkHold(&e); err != nil {
		return err
	}
	return c.holds.put(ctx, events.PlaceOf(e.Holder).Partition, e)
}

// PoH queues one event of the log of Proof of History, as Hold does.
func (c *Client) PoH(ctx context.Context, e events.PoHEvent) error {
	if err := c.checkPoH(&e); err != nil {
		return err
	}
	return c.poh.put(ctx, events.PlaceOf(e.Node).Partition, e)
}

// SendHolds queues a list of events as Hold does, whole or, on an error, not at all. The list is the caller's again when it returns. The receipt
// tells when all of them are stored in the stream.
func (c *Client) SendHolds(ctx context.Context, list []events.HoldEvent) (*Receipt, error) {
	for i := range list {
		if err := c.checkHold(&list[i]); err != nil {
			return nil, fmt.Errorf("event %d of the list: %w", i, err)
		}
	}
	return c.holds.Send(ctx, list)
}

// SendPoH queues a list of events as SendHolds does.
func (c *Client) SendPoH(ctx context.Context, list []events.PoHEvent) (*Receipt, error) {
	for i := range list {
		if err := c.checkPoH(&list[i]); err != nil {
			return nil, fmt.Errorf("event %d of the list: %w", i, err)
		}
	}
	return c.poh.Send(ctx, list)
}

func (c *Client) checkHold(e *events.HoldEvent) error {
	if failed := c.failed.Load(); failed != nil {
		return *failed
	}
	err := e.Validate()
	if err == nil {
		err = c.checkAhead(e)
	}
	if err != nil {
		c.refused.Add(1)
	}
	return err
}

func (c *Client) checkPoH(e *events.PoHEvent) error {
	if failed := c.failed.Load(); failed != nil {
		return *failed
	}
	err := e.Validate()
	if err == nil {
		err = poh.CheckSum(e)
	}
	if err != nil {
		c.refused.Add(1)
	}
	return err
}

// watchClock looks at the clock until ctx is done.
func (c *Client) watchClock(ctx context.Context) {
	for paused(ctx, clockPause) {
		c.clock.Store(time.Now().UnixMilli())
	}
}

// checkAhead holds an event's start against the clock, which is looked at only if the last look refuses it.
func (c *Client) checkAhead(e *events.HoldEvent) error {
	if e.CheckAhead(events.Time(c.clock.Load())) == nil {
		return nil
	}
	now := time.Now().UnixMilli()
	c.clock.Store(now)
	return e.CheckAhead(events.Time(now))
}

// Flush returns nil when everything that was taken before is stored in the stream, what the spool has of processes before included. Else it
// returns the cause of ctx, or, if the client is closed meanwhile, what the receipts of its events say.
func (c *Client) Flush(ctx context.Context) error {
	if c.spool != nil {
		select {
		case <-c.spool.drained:
		case <-ctx.Done():
			return fmt.Errorf("flush: %w", context.Cause(ctx))
		case <-c.ended:
			return fmt.Errorf("flush: %w", ErrSpooled)
		}
	}
	for _, receipt := range []*Receipt{c.holds.mark(), c.poh.mark()} {
		if err := receipt.Wait(ctx); err != nil {
			return fmt.Errorf("flush: %w", err)
		}
	}
	return nil
}

// Stats is how a client stands.
type Stats struct {
	Name  string // the producer's name; with Bucket the prefix, until a name is claimed
	Epoch uint64 // 0 until it is known

	Queued       int    // events in memory that are neither acknowledged nor spooled
	Spooled      int64  // events in the spool that are not acknowledged
	SpooledBytes int64  // what the spool takes on the disk
	Acknowledged uint64 // events stored in the stream since Open
	Refused      uint64 // events not taken since Open, for the rules that they break

	Connected bool
	// Err is why nothing is taken, or not sent, at present: for example ErrNameTaken. Nil while all is well, or merely disconnected.
	Err error
}

// Stats returns how the client stands.
func (c *Client) Stats() Stats {
	s := Stats{
		Name: *c.name.Load(), Epoch: c.epoch.Load(), Queued: c.holds.Pending() + c.poh.Pending(),
		Acknowledged: c.holds.acknowledged.Load() + c.poh.acknowledged.Load(), Refused: c.refused.Load(),
	}
	if c.spool != nil {
		s.Spooled, s.SpooledBytes = c.spool.kept()
	}
	if n := c.nats.Load(); n != nil {
		s.Connected = n.Conn().IsConnected()
	}
	if failed := c.failed.Load(); failed != nil {
		s.Err = *failed
	}
	return s
}

// fail has new events refused with an error, or taken again if it is nil.
func (c *Client) fail(err error) {
	if err == nil {
		c.failed.Store(nil)
		return
	}
	c.failed.Store(&err)
}

// Close takes nothing more, waits until what was taken is acknowledged, keeps the numbers, and gives the name back. When ctx is
// done first, what is left goes into the spool, if there is one, and the next client of the folder sends it, which is no error here; its
// receipts say [ErrSpooled]. Without a spool, or if that has no room, what is left is given up with [ErrUnacknowledged]. Another Close waits
// for the first, and returns the same.
func (c *Client) Close(ctx context.Context) error {
	c.closed.Do(func() { c.result = c.close(ctx) })
	return c.result
}
