package score

import (
	"cmp"
	"math/bits"
	"slices"
	"sort"

	"github.com/holiman/uint256"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/wire"
)

// Table is the holders of a slot for who only reads them: as they were encoded, and beside that, in columns, what their
// scores at any instant follow from. It takes about half of what [Holders] takes, evaluates all its holders in one pass
// over memory that lies side by side, and has few pointers for a garbage collector to follow.
//
// Its holders are numbered from 0 to Len()−1 in the order of their ids. A Table never changes, and so is safe for
// concurrent use.
type Table struct {
	policy    *Policy
	text      string   // the encodings of the holders, one after the other
	begins    []uint32 // where each one's begins in text, and where the last one's ends
	finished  sumColumn
	held      uint64        // how many holds they have had
	spans     holdColumn    // the holds that are not summed up, holder after holder
	firsts    []uint32      // where each one's spans begin, and where the last one's end; nil: there are none
	expires   []events.Time // the last instant at which each counts; nil: all count, always
	holds     []uint64      // how many holds each has had; nil if expires is
	through   events.Time
	forgotten events.Time
	scores    Histogram
}

// never is the last instant at which a holder counts that has never held anything.
const never events.Time = -1

// DecodeTable reads what Holders.Append writes, and accepts what DecodeHolders accepts under policy p, which must not
// change while the table is in use. It keeps the memory of the reader's input. It fails on the reader; what it then returns
// is not to be used.
func DecodeTable(p *Policy, r *wire.Reader) *Table {
	t := &Table{policy: p}
	t.forgotten, t.scores = readHead(r)
	n := r.Array()
	t.begins = make([]uint32, 0, n+1)
	holds := make([]uint64, 0, n)
	begin, last := r.Offset(), ""
	var h Holder // of which each holder takes the memory in turn
	for i := range n {
		t.begins = append(t.begins, uint32(r.Offset()-begin))
		last = h.read(p, r, last)
		if r.Err() != nil {
			return t
		}
		t.finished.add(&h.finished, n-i)
		holds = append(holds, h.holds)
		t.held += h.holds
		t.through = max(t.through, h.through)
		t.addSpans(i, n, &h)
		expiry := h.expiry(p)
		if h.holds == 0 {
			expiry = never
		}
		t.expires = extend(t.expires, i, n-i, expiry, events.Open)
	}
	t.begins = append(t.begins, uint32(r.Offset()-begin))
	if t.firsts != nil {
		t.firsts = append(t.firsts, uint32(len(t.spans.starts)))
		t.spans.clip()
	}
	if t.expires != nil {
		t.holds = holds
	}
	t.text = r.Text(begin)
	return t
}

// addSpans adds the spans of holder i of n.
func (t *Table) addSpans(i, n int, h *Holder) {
	if t.firsts == nil && len(h.list) > 0 {
		t.firsts = make([]uint32, i, n+1)
	}
	if t.firsts != nil {
		t.firsts = append(t.firsts, uint32(len(t.spans.starts)))
	}
	for j := range h.list {
		if e := &h.list[j]; e.counts() && (e.form != formBalance || !e.weight.IsZero()) {
			t.spans.add(e.span(), n-i)
		}
	}
}

// Len returns the number of holders, those included that have expired and were not removed yet and those of which nothing
// but a waiting release is known.
func (t *Table) Len() int { return t.finished.n }

// ID returns the id of holder i. It shares the table's memory.
func (t *Table) ID(i int) string {
	r := wire.NewReader(t.Encoding(i))
	r.Array()
	return r.String()
}

// Encoding returns the encoding of holder i, its id included: two holders are in the same state under one policy if
// theirs are equal. It shares the table's memory.
func (t *Table) Encoding(i int) string { return t.text[t.begins[i]:t.begins[i+1]] }

// Find returns the number of the holder of that id, and true; or that of the first holder behind it, and false.
func (t *Table) Find(id string) (i int, found bool) { return t.FindNear(id, t.Len()/2) }

// FindNear does what Find does, and looks at few ids if guess is near the number that it returns. Any guess will do.
func (t *Table) FindNear(id string, guess int) (i int, found bool) {
	low, high := 0, t.Len() // the ids before low are less, those from high on are not
	if guess = min(max(guess, 0), high); guess < high && t.ID(guess) < id {
		low = guess + 1
		for step := 4; low+step < high; step *= 2 {
			if t.ID(low+step) >= id {
				high = low + step
				break
			}
			low += step + 1
		}
	} else {
		high = guess
		for step := 4; high-step > low; step *= 2 {
			if t.ID(high-step) < id {
				low = high - step + 1
				break
			}
			high -= step
		}
	}
	i = low + sort.Search(high-low, func(i int) bool { return t.ID(low+i) >= id })
	return i, i < t.Len() && t.ID(i) == id
}

// Holder returns holder i, to be read. Its texts share the table's memory.
func (t *Table) Holder(i int) *Holder {
	r := wire.NewReader(t.Encoding(i))
	h := &Holder{due: events.Open}
	h.read(t.policy, &r, "")
	return h
}

// At returns the score of holder i at an instant, as Holder.At does.
func (t *Table) At(i int, at events.Time) (Reading, bool) { return t.Holder(i).At(t.policy, at) }

// Since returns the first instant for which every holder's score is known.
func (t *Table) Since() events.Time { return max(t.through, t.Forgotten()) }

// Forgotten returns the first instant for which no holder is missing that has expired and been removed, as
// Holders.Forgotten does.
func (t *Table) Forgotten() events.Time { return firstWithout(t.forgotten) }

// Added returns the histogram of what each accepted event added. It must not be changed.
func (t *Table) Added() *Histogram { return &t.scores }

// Counts tells whether holder i has a score at an instant; Holder.At says the same.
func (t *Table) Counts(i int, at events.Time) bool { return t.expires == nil || at <= t.expires[i] }

// Evaluate returns the score at an instant, not before Since, of each holder, in the memory of into if that suffices. Where
// a holder does not count, it says nothing.
func (t *Table) Evaluate(at events.Time, into []Sum) []Sum {
	into = slices.Grow(into[:0], t.Len())[:t.Len()]
	t.finished.read(into)
	if t.firsts != nil {
		t.spans.accrue(into, t.firsts, at)
	}
	return into
}

// Total is what several holders come to at an instant.
type Total struct {
	Holders   uint64 // those that count
	Holds     uint64 // that these have had
	OpenHolds uint64 // of these: begun, and without an end
	Score     Sum
	Rate      Rate // how fast the score grows
}

// Add adds what others come to.
func (t *Total) Add(other *Total) {
	t.Holders += other.Holders
	t.Holds += other.Holds
	t.OpenHolds += other.OpenHolds
	t.Score = t.Score.Add(other.Score)
	t.Rate = t.Rate.AddRate(other.Rate)
}

// Total returns what all holders come to at an instant, for which scores are what Evaluate has returned.
func (t *Table) Total(at events.Time, scores []Sum) (total Total) {
	if t.expires == nil {
		total.Holders, total.Holds = uint64(len(scores)), t.held
	}
	var sum uint256.Int // in registers
	for i := range scores {
		if t.expires != nil {
			if at > t.expires[i] {
				continue
			}
			total.Holders++
			total.Holds += t.holds[i]
		}
		s, c := &scores[i].limbs, uint64(0)
		sum[0], c = bits.Add64(sum[0], s[0], 0)
		sum[1], c = bits.Add64(sum[1], s[1], c)
		sum[2], c = bits.Add64(sum[2], s[2], c)
		sum[3] += s[3] + c
	}
	total.Score.limbs = sum
	if t.firsts != nil {
		total.Rate, total.OpenHolds = t.running(at)
	}
	return total
}

// running returns the weight, and the number without an end, of the holds that run at an instant, of holders that count.
func (t *Table) running(at events.Time) (rate Rate, open uint64) {
	var sum uint256.Int
	j := uint32(0)
	for i := range t.Len() {
		to := t.firsts[i+1]
		if !t.Counts(i, at) {
			j = to
		}
		for ; j < to; j++ {
			h := t.spans.at(j)
			if h.Start > at || h.End <= at {
				continue
			}
			var c uint64
			sum[0], c = bits.Add64(sum[0], h.Weight.Lo, 0)
			sum[1], c = bits.Add64(sum[1], h.Weight.Hi, c)
			sum[2] += c
			if h.End == events.Open {
				open++
			}
		}
	}
	return Rate{limbs: sum}, open
}

// Bend is an instant at which a holder's rate changes, or at which it first does not count any more.
type Bend struct {
	At     events.Time
	Holder int32 // its number
}

// Bends returns the bends of the holds that are not summed up, and those by expiry, in the order of their instants.
func (t *Table) Bends() (bends []Bend) {
	for i := range t.Len() {
		if t.firsts != nil {
			for j := t.firsts[i]; j < t.firsts[i+1]; j++ {
				h := t.spans.at(j)
				bends = append(bends, Bend{h.Start, int32(i)})
				if h.End != events.Open {
					bends = append(bends, Bend{h.End, int32(i)})
				}
			}
		}
		if t.expires != nil && t.expires[i] != events.Open && t.expires[i] != never {
			bends = append(bends, Bend{t.expires[i] + 1, int32(i)})
		}
	}
	slices.SortFunc(bends, func(a, b Bend) int { return cmp.Compare(a.At, b.At) })
	return slices.Clone(bends) // without what it had room for
}
