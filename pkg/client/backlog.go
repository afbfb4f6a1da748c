package client

// backlog is events in their order, and whose receipts they are on. It is struck off from the front.
type backlog[E Event] struct {
	events []E
	struck int // so many of events are done

	shares  []share // of events, in the same order
	settled int     // so many of shares are done
}

// share is some neighbouring events of one receipt.
type share struct {
	receipt *Receipt // nil: nobody asks
	events  int      // not yet struck off
}

// acknowledge notes that n more events of the share are stored.
func (s *share) acknowledge(n int) {
	if s.receipt != nil {
		s.receipt.acknowledge(n)
	}
}

// giveUp notes that the share's events will not be sent again by this process.
func (s *share) giveUp(err error) {
	if s.receipt != nil {
		s.receipt.giveUp(err)
	}
}

// len returns how many events are left.
func (b *backlog[E]) len() int { return len(b.events) - b.struck }

// rest returns the events that are left.
func (b *backlog[E]) rest() []E { return b.events[b.struck:] }

// add appends an event of a receipt.
func (b *backlog[E]) add(e E, r *Receipt) {
	b.events = append(b.events, e)
	if last := len(b.shares) - 1; last >= 0 && b.shares[last].receipt == r {
		b.shares[last].events++
		return
	}
	b.shares = append(b.shares, share{receipt: r, events: 1})
}

// strike acknowledges the first n of the events that are left.
func (b *backlog[E]) strike(n int) {
	b.cut(n, func(s share) { s.acknowledge(s.events) })
}

// detach removes the first n of the events that are left and returns their shares, not acknowledged.
func (b *backlog[E]) detach(n int) (shares []share) {
	b.cut(n, func(s share) {
		if s.receipt != nil {
			shares = append(shares, s)
		}
	})
	return shares
}

// cut removes the first n of the events that are left, and calls done for each share, or part of one, that goes with them.
func (b *backlog[E]) cut(n int, done func(share)) {
	clear(b.events[b.struck : b.struck+n]) // lets go of their texts
	b.struck += n
	for n > 0 {
		s := &b.shares[b.settled]
		part := min(s.events, n)
		done(share{receipt: s.receipt, events: part})
		n -= part
		if s.events -= part; s.events == 0 {
			*s = share{}
			b.settled++
		}
	}
}

// giveUp tells the receipts of what is left that it will not be sent again.
func (b *backlog[E]) giveUp() {
	for _, s := range b.shares[b.settled:] {
		s.giveUp(ErrUnacknowledged)
	}
}

// emptied returns an empty backlog in the same memory.
func (b *backlog[E]) emptied() backlog[E] {
	return backlog[E]{events: b.events[:0], shares: b.shares[:0]}
}
