package check

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// What the buckets have, decoded generically: arrays as []any, integers of whatever size, byte strings. docs/state-format.md says
// what stands where.

// stateVersion is the version of the encoding that the page describes.
const stateVersion uint64 = 3

// parts walks through an array. What does not fit panics with a wrongForm, which [decodeStored] turns into an error.
type parts struct {
	list []any
	next int
	left *int // how many parts of the value's arrays are not read yet
}

// wrongForm is what a value that does not fit its format panics with.
type wrongForm string

func listOf(v any, left *int) *parts {
	list, ok := v.([]any)
	if !ok {
		panic(wrongForm(fmt.Sprintf("%T instead of an array", v)))
	}
	*left += len(list)
	return &parts{list: list, left: left}
}

func (p *parts) any() any {
	if p.next == len(p.list) {
		panic(wrongForm(fmt.Sprintf("an array of only %d parts", p.next)))
	}
	p.next++
	*p.left--
	return p.list[p.next-1]
}

func (p *parts) more() bool { return p.next < len(p.list) }

func (p *parts) array() *parts { return listOf(p.any(), p.left) }

// none reads nil if that is next, and tells whether it was.
func (p *parts) none() bool {
	if p.next == len(p.list) || p.list[p.next] != nil {
		return false
	}
	p.any()
	return true
}

// rising reads an array whose elements each return what they are sorted by, without equal ones.
func rising[K any](p *parts, compare func(a, b K) int, read func(*parts) K) {
	var last K
	list := p.array()
	for i := 0; list.more(); i++ {
		next := read(list)
		if i > 0 && compare(last, next) >= 0 {
			panic(wrongForm(fmt.Sprintf("%v stands behind %v", next, last)))
		}
		last = next
	}
}

func (p *parts) text() string {
	v := p.any()
	s, ok := v.(string)
	if !ok {
		panic(wrongForm(fmt.Sprintf("%T instead of a text", v)))
	}
	return s
}

func (p *parts) bytes() string {
	v := p.any()
	b, ok := v.([]byte)
	if !ok {
		panic(wrongForm(fmt.Sprintf("%T instead of bytes", v)))
	}
	return string(b)
}

// sum is an integer, or the bytes of one that does not fit 64 bits.
func (p *parts) sum() *big.Int {
	v := p.any()
	if b, ok := v.([]byte); ok {
		if len(b) <= 8 || b[0] == 0 {
			panic(wrongForm(fmt.Sprintf("the bytes %x instead of an integer", b)))
		}
		return new(big.Int).SetBytes(b)
	}
	n, ok := integer(v)
	if !ok || n.Sign() < 0 {
		panic(wrongForm(fmt.Sprintf("%T %v instead of a number", v, v)))
	}
	return n
}

// number is an integer from 0 on, of 64 bits.
func (p *parts) number() uint64 {
	n := p.sum()
	if !n.IsUint64() {
		panic(wrongForm(fmt.Sprintf("%v is too large a number", n)))
	}
	return n.Uint64()
}

// upTo is a number of at most that.
func (p *parts) upTo(most uint64) uint64 {
	n := p.number()
	if n > most {
		panic(wrongForm(fmt.Sprintf("%d instead of at most %d", n, most)))
	}
	return n
}

func (p *parts) instant() int64 { return int64(p.upTo(math.MaxInt64)) }

// end is an instant, or nil for none.
func (p *parts) end() int64 {
	if p.none() {
		return Forever
	}
	return p.instant()
}

// decodeStored decodes a value by what reads its parts, and expects that nothing else is in it.
func decodeStored(value []byte, read func(*parts)) (err error) {
	if err := checkLengths(value); err != nil {
		return err
	}
	var v any
	rest := bytes.NewReader(value)
	if err := msgpack.NewDecoder(rest).Decode(&v); err != nil {
		return err
	}
	if rest.Len() > 0 {
		return fmt.Errorf("not in its format: %d bytes behind it", rest.Len())
	}
	defer func() {
		if r := recover(); r != nil {
			wrong, ok := r.(wrongForm)
			if !ok {
				panic(r)
			}
			err = fmt.Errorf("not in its format: %s", string(wrong))
		}
	}()
	left := 0
	if read(listOf(v, &left)); left > 0 {
		return fmt.Errorf("not in its format: %d parts too many", left)
	}
	return nil
}

// storedSlot is a slot as it is stored.
type storedSlot struct {
	version  uint64
	created  time.Time
	sequence uint64
	tally
	added   string
	holders map[string]*storedHolder
	nodes   map[string]*storedNode
}

// tally counts what became of events.
type tally struct {
	unchanged         uint64
	accepted, refused map[string]uint64
}

var kinds = map[uint64]string{
	1: "hold", 2: "release", 3: "balance", 4: "poh.issued", 5: "poh.verified", 6: "gc", 7: "peers", 8: "http", 9: "grpc", 10: "poh.sum",
}

var reasons = map[uint64]string{
	1: "malformed", 2: "unknown_version", 3: "unknown_kind", 4: "unknown_field", 5: "missing_field", 6: "invalid_id",
	7: "invalid_time", 8: "invalid_weight", 9: "invalid_value", 10: "end_before_start", 11: "misrouted",
	32: "start_ahead", 33: "stale_revision", 34: "unknown_hold", 35: "nothing_to_release", 36: "already_ended",
	37: "release_before_start", 38: "release_expired", 39: "balance_out_of_order", 40: "too_many_holds", 41: "too_many_tokens",
	42: "slot_full", 43: "too_many_producers", 44: "too_many_gaps", 45: "stale_epoch", 46: "too_many_series",
}

func (p *parts) counts(names map[uint64]string) map[string]uint64 {
	counts := map[string]uint64{}
	rising(p, cmp.Compare[uint64], func(p *parts) uint64 {
		n := p.number()
		name := names[n]
		if name == "" {
			name = fmt.Sprint("number ", n)
		}
		counts[name] = p.number()
		return n
	})
	return counts
}

func (p *parts) tally() tally {
	return tally{unchanged: p.number(), accepted: p.counts(kinds), refused: p.counts(reasons)}
}

func decodeSlot(log log, value []byte) (*storedSlot, error) {
	s := &storedSlot{holders: map[string]*storedHolder{}, nodes: map[string]*storedNode{}}
	return s, decodeStored(value, func(p *parts) {
		s.version, s.sequence, s.created, s.tally = p.number(), p.number(), time.Unix(0, p.instant()), p.array().tally()
		if log.number == 2 {
			rising(p, strings.Compare, func(p *parts) string {
				n := p.array()
				name := n.text()
				s.nodes[name] = n.node()
				return name
			})
			return
		}
		content := p.array()
		if content.number() != 0 { // without a TTL
			panic(wrongForm("a holder was forgotten"))
		}
		s.added = content.array().histogram().String()
		rising(content, strings.Compare, func(p *parts) string {
			h := p.array()
			id := h.text()
			s.holders[id] = h.holder()
			return id
		})
	})
}

func (p *parts) histogram() *histogram {
	h := &histogram{sum: *p.sum()}
	for i := 0; p.more(); i++ {
		if i == len(h.counts) {
			panic(wrongForm("a histogram of too many counts"))
		}
		h.counts[i] = p.number()
	}
	return h
}

// storedHolder is a holder as it is stored.
type storedHolder struct {
	finished      *big.Int
	through, last int64
	count         uint64
	list          []*hold
}

func (p *parts) holder() *storedHolder {
	h := &storedHolder{finished: p.sum(), through: p.instant(), last: p.instant(), count: p.number()}
	for list := p.array(); list.more(); {
		h.list = append(h.list, list.array().entry())
	}
	if !p.none() { // without a window
		panic(wrongForm("a holder has a window"))
	}
	return h
}

func (p *parts) entry() *hold {
	h := &hold{form: kind(p.number()), token: p.text(), weight: new(big.Int), end: Forever}
	switch h.form {
	case plain, named:
		h.start, h.end, h.weight = p.instant(), p.end(), p.sum()
		if h.form == named {
			h.id, h.said, h.stated, h.released, h.rev = p.text(), p.instant(), p.end(), p.end(), p.number()
		}
	case balance:
		h.start, h.weight = p.instant(), p.sum()
	case waiting:
		h.end, h.id, h.said = p.instant(), p.text(), p.instant()
		h.at = position{sequence: p.number(), index: int(p.upTo(math.MaxInt32)), clock: p.instant(), producer: p.text()}
	default:
		panic(wrongForm(fmt.Sprintf("an entry of form %d", h.form)))
	}
	return h
}

// storedNode is a node as it is stored: what it did, as it is compared.
type storedNode struct {
	last int64
	did  map[string]string
}

func (p *parts) node() *storedNode {
	n := &storedNode{last: p.instant(), did: map[string]string{}}
	for _, of := range []series{{"poh.issued", "success", "", 0}, {"poh.issued", "failure", "", 0}, {"poh.verified", "success", "", 0}, {"poh.verified", "failure", "", 0}} {
		n.latencies(of, p)
	}
	for _, kind := range []string{"minor", "major"} {
		if count := p.number(); count > 0 {
			n.did["gc "+kind] = fmt.Sprint(count)
		}
	}
	if !p.none() {
		n.did["peers"] = fmt.Sprint(p.number())
	}
	rising(p, series.compare, func(p *parts) series {
		in := p.array()
		of := series{"http", in.text(), in.text(), in.number()}
		n.latencies(of, in)
		return of
	})
	rising(p, series.compare, func(p *parts) series {
		in := p.array()
		of := series{"grpc", in.text(), "", in.number()}
		n.latencies(of, in)
		return of
	})
	if p.more() {
		n.apart(p.array())
	}
	return n
}

func (s series) compare(other series) int {
	return cmp.Or(strings.Compare(s.what, other.what), strings.Compare(s.route, other.route), cmp.Compare(s.status, other.status))
}

// apart reads [latencies issued, issued, issued in vain, and the same of verified]: what was reported of proofs without a latency, or
// without a result.
func (n *storedNode) apart(p *parts) {
	before := len(n.did)
	for _, kind := range []string{"poh.issued", "poh.verified"} {
		n.latencies(series{kind: kind}, p)
		for _, result := range []string{"success", "failure"} {
			if count := p.number(); count > 0 {
				n.did[countedName(series{kind: kind, what: result})] = fmt.Sprint(count)
			}
		}
	}
	if len(n.did) == before {
		panic(wrongForm("nothing apart, which is left out"))
	}
}

// countedName is what a count of proofs without latencies is compared under.
func countedName(of series) string { return fmt.Sprint("counted ", of) }

// latencies reads nil, or a distribution.
func (n *storedNode) latencies(of series, in *parts) {
	if !in.none() {
		n.did[fmt.Sprint(of)] = in.array().distribution().String()
	}
}

// storedCheckpoint is a checkpoint as it is stored.
type storedCheckpoint struct {
	version, partition, sequence uint64
	stream, attempt              string
	created                      time.Time
	clock                        int64
	last                         uint64
	lastLeaf, peaks              string
	messages, duplicates         uint64
	flushes                      uint64
	tally
	slots     map[int]listedSlot
	producers map[string]string
}

// listedSlot is what a checkpoint says of a slot.
type listedSlot struct {
	sequence uint64
	root     string
}

func decodeCheckpoint(value []byte) (*storedCheckpoint, error) {
	c := &storedCheckpoint{slots: map[int]listedSlot{}, producers: map[string]string{}}
	return c, decodeStored(value, func(p *parts) {
		c.version, c.stream, c.created, c.partition = p.number(), p.text(), time.Unix(0, p.instant()), p.number()
		c.sequence, c.attempt, c.flushes = p.number(), p.text(), p.number()
		c.last, c.lastLeaf, c.peaks = p.number(), p.bytes(), p.bytes()
		totals := p.array()
		c.clock, c.messages, c.duplicates, c.tally = totals.instant(), totals.number(), totals.number(), totals.array().tally()
		rising(totals, strings.Compare, func(p *parts) string {
			of := p.array()
			name := of.text()
			c.producers[name] = of.numbers()
			return name
		})
		rising(p, cmp.Compare[uint64], func(p *parts) uint64 {
			s := p.array()
			number := s.upTo(slots - 1)
			c.slots[int(number)] = listedSlot{s.number(), s.bytes()}
			return number
		})
	})
}

// numbers reads a producer's numbers as they are compared.
func (p *parts) numbers() string {
	epoch, floor := p.number(), p.number()
	var ranges [][2]uint64
	for before := floor; p.more(); {
		first, last := p.number(), p.number()
		if first <= before || first-before < 2 || last < first {
			panic(wrongForm(fmt.Sprintf("the numbers %d to %d behind %d", first, last, before)))
		}
		ranges, before = append(ranges, [2]uint64{first, last}), last
	}
	return numbersText(epoch, floor, ranges)
}

// did is what a node did, as it is compared with a stored one.
func (n *node) did() map[string]string {
	did := map[string]string{}
	for of, d := range n.latencies {
		did[fmt.Sprint(of)] = d.String()
	}
	for of, count := range n.counted {
		did[countedName(of)] = fmt.Sprint(count)
	}
	for kind, count := range n.collected {
		did["gc "+kind] = fmt.Sprint(count)
	}
	if n.reported {
		did["peers"] = fmt.Sprint(n.peers)
	}
	return did
}

// keysOf returns the keys of both maps, in order.
func keysOf[A, B any](a map[string]A, b map[string]B) []string {
	all := map[string]bool{}
	for k := range a {
		all[k] = true
	}
	for k := range b {
		all[k] = true
	}
	return slices.Sorted(maps.Keys(all))
}
