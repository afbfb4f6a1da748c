package client

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
)

// ClaimFor is Claim with another time to live.
var ClaimFor = claim

// KeptEvents is how long a queue may be for its memory to be used again.
const KeptEvents = keptEvents

// Renew renews a claim at once.
func (n *NameClaim) Renew(ctx context.Context) error { return n.renew(ctx) }

// Fault is what becomes of one write to a disk.
type Fault uint8

// The faults. After the last two the disk is dead, as for a process that has died at that instant.
const (
	Works     Fault = iota
	Fails           // it is not made, and the error says so
	FailsLate       // it is made, and the error says that it was not
	DiesBefore
	DiesAfter
)

// ErrDisk is the error of a disk's fault.
var ErrDisk = errors.New("the disk fails")

// Disk is a folder whose writes can fail.
type Disk struct {
	*folder
	mu     sync.Mutex
	dead   bool                  // guarded by mu
	fault  func(op string) Fault // guarded by mu
	writes []string              // guarded by mu
}

// OpenDisk locks a folder. The fault is asked before each write, under a lock; nil never fails.
func OpenDisk(path string, fault func(op string) Fault) (*Disk, error) {
	f, err := openFolder(path, lockName)
	if err != nil {
		return nil, err
	}
	if fault == nil {
		fault = func(string) Fault { return Works }
	}
	return &Disk{folder: f, fault: fault}, nil
}

// Kill lets nothing more be written.
func (d *Disk) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
}

// Dead tells whether the disk is dead.
func (d *Disk) Dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dead
}

// Writes returns what writes were asked for.
func (d *Disk) Writes() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.writes...)
}

func (d *Disk) do(op string, write func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return ErrDisk
	}
	d.writes = append(d.writes, op)
	fault := d.fault(op)
	d.dead = fault == DiesBefore || fault == DiesAfter
	if fault == Fails || fault == DiesBefore {
		return ErrDisk
	}
	if err := write(); err != nil {
		return err
	}
	if fault != Works {
		return ErrDisk
	}
	return nil
}

func (d *Disk) segment(number uint64, fresh bool) (s segment, err error) {
	if !fresh {
		s, err = d.folder.segment(number, false)
		return faultySegment{s, d}, err
	}
	err = d.do("create", func() error {
		s, err = d.folder.segment(number, true)
		return err
	})
	if err != nil && s != nil {
		s.Close()
	}
	return faultySegment{s, d}, err
}

func (d *Disk) remove(number uint64) error {
	return d.do("remove", func() error { return d.folder.remove(number) })
}
func (d *Disk) sync() error { return d.do("sync folder", d.folder.sync) }
func (d *Disk) writeKept(data []byte) error {
	return d.do("keep", func() error { return d.folder.writeKept(data) })
}

type faultySegment struct {
	segment
	d *Disk
}

func (s faultySegment) WriteAt(b []byte, at int64) (n int, err error) {
	err = s.d.do("write", func() error {
		n, err = s.segment.WriteAt(b, at)
		return err
	})
	return n, err
}

func (s faultySegment) Truncate(size int64) error {
	return s.d.do("truncate", func() error { return s.segment.Truncate(size) })
}

func (s faultySegment) Sync() error { return s.d.do("sync", s.segment.Sync) }

// OpenOn opens a client on a disk, which it closes.
func OpenOn(ctx context.Context, o Options, d *Disk) (*Client, error) {
	o.Keep = Folder(d.path)
	err := o.complete()
	if err == nil {
		var c *Client
		if c, err = start(ctx, o, d, d.close); err == nil {
			return c, nil
		}
	}
	return nil, errors.Join(err, d.close())
}

// WithClaimTTL sets how long claims live.
func (o Options) WithClaimTTL(d time.Duration) Options {
	o.claimTTL = d
	return o
}

// SetClock has the clock read as that, as if it had been set since.
func (c *Client) SetClock(at time.Time) { c.clock.Store(at.UnixMilli()) }

// Crash ends the client as its process's death would, if its disk is dead: nothing is kept, and the claim stays.
func (c *Client) Crash() {
	c.closed.Do(func() {
		gone, cancel := context.WithCancel(context.Background())
		cancel()
		c.mu.Lock()
		c.drain = gone
		c.mu.Unlock()
		c.stop()
		c.end()
		c.work.Wait()
		<-c.ended
		if n := c.nats.Load(); n != nil && c.options.Connection == nil {
			n.Conn().Close()
		}
		if c.spool != nil {
			c.spool.close()
		}
		c.result = errors.New("crashed")
		if c.unlock != nil {
			c.result = errors.Join(c.result, c.unlock())
		}
	})
}

// SpooledHolds reads what the segments of a folder have of the log of holds that a later client has to send, in its order.
func SpooledHolds(path string) (list []events.HoldEvent, err error) {
	f := &folder{path: path}
	numbers, err := f.segments()
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		file, err := f.segment(n, false)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		size, err := file.Size()
		if err != nil {
			return nil, err
		}
		data := make([]byte, size)
		if _, err := file.ReadAt(data, 0); err != nil && size > 0 {
			return nil, err
		}
		places, _, err := scanSegment(data)
		if err != nil {
			return nil, err
		}
		for _, p := range places {
			e, err := entryAt(data[p.offset-recordHeader:])
			if err != nil {
				return nil, err
			}
			if _, list, err = events.DecodeHolds(e.envelope, list); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// faultyJournal is a tracker's journal on a disk whose writes can fail.
type faultyJournal struct {
	journalFolder
	d *Disk
}

func (f faultyJournal) replace(data []byte) (s segment, err error) {
	err = f.d.do("replace", func() error {
		s, err = f.journalFolder.replace(data)
		return err
	})
	if err != nil {
		if s != nil {
			s.Close()
		}
		return nil, err
	}
	return faultySegment{s, f.d}, nil
}

// OpenTracker opens a tracker on a disk, which it closes, with a clock of its own.
func OpenTracker(c *Client, o TrackerOptions, d *Disk, now func() time.Time) (*Tracker, error) {
	o.now = now
	t, err := newTracker(c, o, faultyJournal{journalFolder{d.folder}, d}, d.close)
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return t, nil
}

// Unsent returns how many statements are not acknowledged.
func (t *Tracker) Unsent() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pending
}

// Crash ends the tracker as its process's death would, if its disk is dead.
func (t *Tracker) Crash() {
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_ = t.Close(gone)
}
