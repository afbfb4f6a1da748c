package generate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/city-chain/holdfast/internal/importer"
	"github.com/city-chain/holdfast/pkg/events"
)

// ProducerPrefix begins the names under which generated events are numbered.
const ProducerPrefix = "generate."

// MaxName is the most bytes of a run's name. It begins the ids of holders and nodes, with a dot behind it.
const MaxName = MaxPrefix - 1

const (
	// sendEvents is how many events are handed to the publisher at once.
	sendEvents = 1024
	// sentAhead is how many times that may be unacknowledged.
	sentAhead = 32
	// saveEvery is how often what is done is recorded meanwhile.
	saveEvery = 10 * time.Second
	// grace is how long a run goes on with what it has made when it is told to stop.
	grace = 5 * time.Second
)

var (
	// ErrOther says that another workload was made under the name of a run. Nothing was sent.
	ErrOther = errors.New("another workload is known by this name")

	// ErrBusy says that another run under the same name is going on. It makes the same events under the same numbers, so nothing is lost or
	// doubled.
	ErrBusy = errors.New("another run under this name is going on")

	// errLimit is the end of a run that was limited.
	errLimit = errors.New("the time is over")
)

// RunOptions configure a Run.
type RunOptions struct {
	// Options are of what is made. Their Start may be 0: the run goes on with the start that it had before; one that is new ends at the
	// present. Prefix, Plain, Lines and Soon are to be left alone: the prefix is made of the name.
	Options
	// Name is what the run is known by, 1 to MaxName bytes. What was sent under a name is not sent again.
	Name string
	// Live has the instants of events be those at which they are to be sent. It takes a Rate. Start and Span are to be left alone.
	Live bool
	// Rate is how many events are sent a second; 0 = as many as are taken.
	Rate float64
	// Limit is how long the run may take; 0 = until all events are sent.
	Limit time.Duration

	// Records is the bucket jetstream.Producers. Required.
	Records importer.Records
	// Publish makes the publisher; see [importer.Publish]. Required.
	Publish func(producer string, next importer.Numbers) (importer.Publisher, error)
	// NewBook makes the book when Start is known; nil = there is none. It is told of what earlier runs have sent too.
	NewBook func(o *Options) Book
	// Progress is told how many events are acknowledged, of earlier runs too; nil = nobody is.
	Progress func(done int64)
	// Now is the clock by which a run without a Start ends; nil means time.Now.
	Now func() time.Time
	// Logger is told when the record cannot be written for now. Nil discards.
	Logger *slog.Logger
}

// Result is what a run has come to.
type Result struct {
	Options        // with the start that they have
	Before  int64  // how many events earlier runs had sent
	Done    int64  // how many are sent and acknowledged, those included
	Made    int64  // how many the book knows of, Done at least. If it is more, what the book says is not what is in the stream
	Counts  Counts // of what is made
}

func (o *RunOptions) complete() error {
	if o.Records == nil || o.Publish == nil {
		return errors.New("generate: Records and Publish are required")
	}
	if o.Name == "" || len(o.Name) > MaxName {
		return fmt.Errorf("%w: a name of %d bytes: 1 to %d", ErrOptions, len(o.Name), MaxName)
	}
	if err := (events.Origin{Producer: ProducerPrefix + o.Name, First: 1}).Validate(); err != nil {
		return fmt.Errorf("%w: the name: %w", ErrOptions, err)
	}
	if err := o.checkPace(); err != nil {
		return err
	}
	o.Prefix = o.Name + "."
	if o.NewBook == nil {
		o.NewBook = func(*Options) Book { return nil }
	}
	if o.Progress == nil {
		o.Progress = func(int64) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// checkPace refuses a rate that is none, and a clock without one.
func (o *RunOptions) checkPace() error {
	switch {
	case !(o.Rate >= 0 && o.Rate <= maxRate) || o.Limit < 0:
		return fmt.Errorf("%w: %v events a second for %s: 0 to %d, and not for a negative time", ErrOptions, o.Rate, o.Limit, int(maxRate))
	case o.Live && o.Rate == 0:
		return fmt.Errorf("%w: instants as they come, without a rate", ErrOptions)
	}
	return nil
}

// Run sends what a generator makes, each event once under the run's name, however often the run is interrupted and run again: events
// are numbered in the order in which they are made, and made again they have the same numbers. What is done is recorded in the bucket of
// producers; what was sent since is sent again after a crash, and the fold skips it.
//
// When ctx ends or the limit is reached, Run sends no more and waits for what it has sent, for 5 seconds. Its error is then the cause
// of ctx; there is none if all is sent or the limit is reached.
func Run(ctx context.Context, o RunOptions) (Result, error) {
	if err := o.complete(); err != nil {
		return Result{}, err
	}
	keeper := &recordKeeper{records: o.Records, key: events.EncodeID(ProducerPrefix + o.Name), attempt: rand.Text(), logger: o.Logger}
	rec, err := keeper.load(ctx)
	if err != nil {
		return Result{}, err
	}
	if err := o.settle(rec); err != nil {
		return Result{}, err
	}
	g, err := New(o.Options, o.NewBook(&o.Options))
	if err != nil {
		return Result{}, err
	}
	r := &run{RunOptions: o, keeper: keeper, generator: g, done: rec.Done}
	err = r.run(ctx)
	return Result{Options: o.Options, Before: rec.Done, Done: r.done, Made: g.Made(), Counts: g.Counts()}, err
}

// settle fills in what was left open, and refuses options that the run did not have before, or cannot have now.
func (o *RunOptions) settle(rec record) error {
	now := events.Time(o.Now().UnixMilli())
	if o.Live {
		o.Start, o.Span = 0, Lasting(o.Events, o.Rate)
	}
	switch {
	case o.Start == 0 && rec.known():
		o.Start = rec.Options.Start
	case o.Live:
		o.Start = now
	case o.Start == 0:
		o.Start = (now - o.Span) / 1000 * 1000
	}
	if err := o.Validate(); err != nil {
		return err
	}
	if rec.known() {
		return rec.compare(o.Name, &o.Options)
	}
	return o.Ahead(now, o.Rate)
}

// Lasting is how long it takes to send so many events at a rate, above 0, a second; within what instants can be.
func Lasting(n int64, rate float64) events.Time {
	return events.Time(min(float64(n)/rate*1000, float64(events.MaxTime)))
}

// Ahead refuses options by which events would lie ahead of the clock when they are sent: as many a second, or at once if that is 0.
func (o *Options) Ahead(now events.Time, rate float64) error {
	until := now
	if rate > 0 {
		until += Lasting(o.Events, rate)
	}
	if o.Start > now || o.End() > until {
		return fmt.Errorf("%w: a start at %s and a span of %s: the last events would be sent before their time: start earlier", ErrOptions, o.Start, time.Duration(o.Span)*time.Millisecond)
	}
	return nil
}

// run is a run under way.
type run struct {
	RunOptions
	keeper    *recordKeeper
	generator *Generator
	publisher importer.Publisher
	next      importer.Numbers // of the events that earlier runs have sent
	waiting   []sent
	done      int64 // how many events are acknowledged, and all before them
	saved     time.Time
}

// sent is what was handed to the publisher.
type sent struct {
	made     int64 // how many events there were then
	receipts []importer.Receipt
}

func (r *run) run(ctx context.Context) error {
	if err := r.skip(ctx); err != nil {
		return err
	}
	r.Progress(r.done)
	if r.done == r.Events {
		return nil
	}
	if err := r.save(ctx); err != nil { // before anything is sent: from now on the name stands for this workload
		return err
	}
	var err error
	if r.publisher, err = r.Publish(ProducerPrefix+r.Name, r.next); err != nil {
		return err
	}
	err = r.send(ctx)
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if saveErr := r.save(bounded); saveErr != nil {
		return errors.Join(err, saveErr)
	}
	return err
}

// skip makes the events that earlier runs have sent.
func (r *run) skip(ctx context.Context) error {
	for p := range r.next.Holds {
		r.next.Holds[p], r.next.PoH[p] = 1, 1
	}
	for r.generator.Made() < r.done {
		if r.generator.Made()%(1<<16) == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		switch e, _ := r.generator.Next(); {
		case e.Hold != nil:
			r.next.Holds[events.PlaceOf(e.Hold.Holder).Partition]++
		case e.PoH != nil:
			r.next.PoH[events.PlaceOf(e.PoH.Node).Partition]++
		}
	}
	return nil
}

// send runs the publisher, and sends events until there are no more or ctx ends. When it returns, all that is acknowledged is done.
func (r *run) send(ctx context.Context) error {
	if r.Limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, r.Limit, errLimit)
		defer cancel()
	}
	publishing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	sending, giveUp := context.WithCancelCause(publishing)
	defer giveUp(nil)
	ended := make(chan error, 1)
	go func() {
		err := r.publisher.Run(publishing)
		if publishing.Err() == nil {
			giveUp(fmt.Errorf("publish: %w", errors.Join(err, errors.New("the publisher has ended"))))
		}
		ended <- err
	}()
	defer context.AfterFunc(ctx, func() { // what was made is sent, for a while
		select {
		case <-time.After(grace):
			giveUp(context.Cause(ctx))
		case <-sending.Done():
		}
	})()

	err := r.sendAll(ctx, sending)
	stop()
	if published := <-ended; published == nil && err == nil {
		r.acknowledge(r.generator.Made())
	} else if err == nil {
		err = fmt.Errorf("publish: %w", published)
	}
	switch {
	case err != nil && sending.Err() != nil && context.Cause(sending) != context.Canceled:
		return context.Cause(sending)
	case err != nil || r.done == r.Events:
		return err
	case errors.Is(context.Cause(ctx), errLimit):
		return nil
	}
	return context.Cause(ctx)
}

// sendAll sends events until there are no more or ctx ends. What was made is sent until sending ends.
func (r *run) sendAll(ctx, sending context.Context) error {
	pace := newPace(r.Rate)
	var holds []events.HoldEvent
	var reports []events.PoHEvent
	for more := true; more && ctx.Err() == nil; {
		n := pace.wait(ctx, sendEvents)
		holds, reports = holds[:0], reports[:0]
		for i := 0; i < n && more; i++ {
			var e Event
			switch e, more = r.generator.Next(); {
			case e.Hold != nil:
				holds = append(holds, *e.Hold)
			case e.PoH != nil:
				reports = append(reports, *e.PoH)
			}
		}
		if err := r.hand(sending, holds, reports); err != nil {
			return err
		}
	}
	for len(r.waiting) > 0 {
		if err := r.wait(sending); err != nil {
			return err
		}
	}
	return nil
}

// hand hands events to the publisher.
func (r *run) hand(ctx context.Context, holds []events.HoldEvent, reports []events.PoHEvent) error {
	s := sent{made: r.generator.Made()}
	if len(holds) > 0 {
		receipt, err := r.publisher.SendHolds(ctx, holds)
		if err != nil {
			return err
		}
		s.receipts = append(s.receipts, receipt)
	}
	if len(reports) > 0 {
		receipt, err := r.publisher.SendPoH(ctx, reports)
		if err != nil {
			return err
		}
		s.receipts = append(s.receipts, receipt)
	}
	if r.waiting = append(r.waiting, s); len(r.waiting) <= sentAhead {
		return nil
	}
	return r.wait(ctx)
}

// wait waits until what was handed over first is acknowledged.
func (r *run) wait(ctx context.Context) error {
	s := r.waiting[0]
	for _, receipt := range s.receipts {
		if err := receipt.Wait(ctx); err != nil {
			return err
		}
	}
	r.waiting = r.waiting[1:]
	r.acknowledge(s.made)
	if time.Since(r.saved) < saveEvery {
		return nil
	}
	if err := r.saveOnce(ctx); errors.Is(err, ErrBusy) {
		return err
	}
	return nil // else the next time will do
}

func (r *run) acknowledge(made int64) {
	r.done = made
	r.Progress(made)
}

func (r *run) save(ctx context.Context) error {
	r.saved = time.Now()
	return r.keeper.save(ctx, record{Version: recordVersion, Options: r.Options, Done: r.done})
}

func (r *run) saveOnce(ctx context.Context) error {
	r.saved = time.Now()
	return r.keeper.write(ctx, record{Version: recordVersion, Options: r.Options, Done: r.done})
}
