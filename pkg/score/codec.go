package score

import (
	"math"
	"slices"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/wire"
)

// The encoding of the holders of a slot is canonical: equal states have equal bytes.
//
//	holders = [forgotten, histogram, [holder, …]]       holders in the order of their ids
//	holder  = [id, finished, through, last, holds, [entry, …], window or nil]
//	plain   = [1, token, start, end or nil, weight]
//	named   = [2, token, start, end or nil, weight, id, said, stated or nil, released or nil, rev]
//	balance = [3, token, start, weight]
//	waiting = [4, token, end, id, said, sequence, index, clock, producer]
//	window  = [head, sum, …]                            the oldest bucket first

// What a part of a slot takes at most, without its texts. A text of n bytes takes at most n+3.
const (
	holdersSize  = 800                      // the slot's own: three headers, a clock, the histogram's 82 counts and sum
	windowStep   = 34                       // a sum
	textOverhead = 3                        // a header
	entrySize    = 80 + 3*textOverhead      // any entry; the largest is a named hold: six integers and a weight
	baseSize     = 1 + 34 + 4*9 + 5 + 5 + 9 // a holder: header, sum, three integers, headers of list and window
)

// holderSize is what a holder takes at most, without its list.
func holderSize(p *Policy, id string) int {
	return baseSize + textOverhead + len(id) + p.steps()*windowStep
}

// size is what the entry takes at most.
func (h *hold) size() int {
	n := entrySize + len(h.token)
	if h.named != nil {
		n += len(h.named.id) + len(h.named.origin.Producer)
	}
	return n
}

// Append appends the encoding of the holders to b. A fold that is clipped has none.
func (hs *Holders) Append(b []byte) []byte {
	if hs.clip != nil {
		panic("score: a clipped fold is not encoded")
	}
	b = wire.AppendArray(b, 3)
	b = wire.AppendUint(b, uint64(hs.forgotten))
	b = hs.scores.append(b)
	all := hs.sorted()
	b = wire.AppendArray(b, len(all))
	for _, h := range all {
		b = h.append(b, h.id)
	}
	return b
}

// append appends the encoding of one holder, as it stands within that of its slot.
func (h *Holder) append(b []byte, id string) []byte {
	b = wire.AppendArray(b, 7)
	b = wire.AppendString(b, id)
	b = appendSum(b, h.finished)
	b = wire.AppendUint(b, uint64(h.through))
	b = wire.AppendUint(b, uint64(h.last))
	b = wire.AppendUint(b, h.holds)
	b = wire.AppendArray(b, len(h.list))
	for i := range h.list {
		b = h.list[i].append(b)
	}
	if h.window == nil {
		return wire.AppendNil(b)
	}
	return h.window.append(b)
}

// entryParts is how many parts an entry of each form has.
var entryParts = [...]int{formPlain: 5, formNamed: 10, formBalance: 4, formWaiting: 9}

func (h *hold) append(b []byte) []byte {
	b = wire.AppendArray(b, entryParts[h.form])
	b = wire.AppendUint(b, uint64(h.form))
	b = wire.AppendString(b, h.token)
	switch h.form {
	case formBalance:
		b = wire.AppendUint(b, uint64(h.start))
		return events.AppendWeight(b, h.weight)
	case formWaiting:
		b = wire.AppendUint(b, uint64(h.end))
		b = wire.AppendString(b, h.named.id)
		b = wire.AppendUint(b, uint64(h.named.said))
		b = wire.AppendUint(b, h.named.origin.Sequence)
		b = wire.AppendUint(b, uint64(h.named.origin.Index))
		b = wire.AppendUint(b, uint64(h.named.origin.Clock))
		return wire.AppendString(b, h.named.origin.Producer)
	}
	b = wire.AppendUint(b, uint64(h.start))
	b = appendEnd(b, h.end)
	b = events.AppendWeight(b, h.weight)
	if h.form == formNamed {
		b = wire.AppendString(b, h.named.id)
		b = wire.AppendUint(b, uint64(h.named.said))
		b = appendEnd(b, h.named.stated)
		b = appendEnd(b, h.named.released)
		b = wire.AppendUint(b, uint64(h.named.rev))
	}
	return b
}

func (w *window) append(b []byte) []byte {
	n := int64(len(w.sums))
	b = wire.AppendArray(b, len(w.sums)+1)
	b = wire.AppendUint(b, uint64(w.head))
	for i := range n {
		b = appendSum(b, w.sums[(w.head+1+i)%n])
	}
	return b
}

// DecodeHolders reads what Append writes, for a fold that goes on under policy p. It accepts nothing else,
// and fails on the reader; what it then returns is not to be used.
func DecodeHolders(p *Policy, r *wire.Reader) *Holders {
	hs := NewHolders(p)
	hs.forgotten, hs.scores = readHead(r)
	last := ""
	for range r.Array() {
		h := &Holder{due: events.Open}
		last = h.read(p, r, last)
		if r.Err() != nil {
			return hs
		}
		hs.add(last, h) // the id is copied, or it would keep the whole slot's bytes
		hs.through = max(hs.through, h.through)
		hs.size += holderSize(p, h.id)
		next := hs.expiresFrom(h)
		for i := range h.list {
			h.list[i].own()
			hs.size += h.list[i].size()
			next = min(next, h.list[i].settled())
		}
		hs.schedule(h, next)
	}
	return hs
}

// readHead reads what stands before the holders of a slot.
func readHead(r *wire.Reader) (forgotten events.Time, scores Histogram) {
	if n := r.Array(); n != 3 {
		r.Fail("a slot of %d parts; it has 3", n)
	}
	return readTime(r), readHistogram(r)
}

// read reads a holder, which stands behind the one of the id before, into h, whatever was in it: memory is used again.
// Its texts, and the id, share the memory of the input.
func (h *Holder) read(p *Policy, r *wire.Reader, before string) (id string) {
	if n := r.Array(); n != 7 {
		r.Fail("a holder of %d parts; it has 7", n)
	}
	if id = r.String(); id <= before {
		r.Fail("the holder %q is not behind %q, the one before it", id, before)
	}
	h.finished, h.through, h.last, h.holds = readSum(r), readTime(r), readTime(r), r.Uint()
	h.list = h.list[:0]
	if n := r.Array(); n > 0 {
		h.list = slices.Grow(h.list, n)
		for range n {
			h.list = append(h.list, readEntry(r))
			if r.Err() != nil {
				return id
			}
		}
	}
	if r.Nil() {
		h.window = nil
		return id
	}
	if h.window == nil {
		h.window = &window{}
	}
	h.window.read(p, r)
	return id
}

func readEntry(r *wire.Reader) (h hold) {
	parts := r.Array()
	h.form = form(r.UintMax(uint64(formWaiting)))
	if parts != entryParts[h.form] || parts == 0 {
		r.Fail("an entry of form %d with %d parts", h.form, parts)
		return h
	}
	h.token = r.String()
	switch h.form {
	case formPlain, formNamed:
		h.start, h.end, h.weight = readTime(r), readEnd(r), events.ReadWeight(r)
		if h.form == formNamed {
			h.named = &named{id: r.String(), said: readTime(r), stated: readEnd(r), released: readEnd(r), rev: uint32(r.UintMax(math.MaxUint32))}
		}
	case formBalance:
		h.start, h.end, h.weight = readTime(r), events.Open, events.ReadWeight(r)
	case formWaiting:
		h.end = readTime(r)
		h.named = &named{id: r.String(), said: readTime(r)}
		h.named.origin = events.Position{Sequence: r.Uint(), Index: int(r.UintMax(events.MaxBatch)), Clock: readTime(r), Producer: r.String()}
	}
	return h
}

// read reads a window into w.
func (w *window) read(p *Policy, r *wire.Reader) {
	n := int64(p.steps())
	if got := r.Array(); n == 0 || got != int(n)+1 {
		r.Fail("a window of %d buckets under a policy of %d", got-1, n)
		return
	}
	w.head = int64(r.UintMax(uint64(events.MaxTime)))
	if w.sums == nil {
		w.sums = make([]Sum, n)
	}
	for i := range n {
		w.sums[(w.head+1+i)%n] = readSum(r)
	}
}

func appendEnd(b []byte, t events.Time) []byte {
	if t == events.Open {
		return wire.AppendNil(b)
	}
	return wire.AppendUint(b, uint64(t))
}

func readEnd(r *wire.Reader) events.Time {
	if r.Nil() {
		return events.Open
	}
	return readTime(r)
}

func readTime(r *wire.Reader) events.Time { return events.Time(r.UintMax(uint64(events.MaxTime))) }
