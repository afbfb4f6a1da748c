package check

import (
	"fmt"
	"maps"
	"math/big"
	"slices"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// What the buckets have, decoded generically: arrays as []any, integers of whatever size, byte strings. docs/state-format.md says
// what stands where.

// parts walks through an array. What does not fit panics with a wrongForm, which [decodeStored] turns into an error.
type parts struct {
	list []any
	next int
}

// wrongForm is what a value that does not fit its format panics with.
type wrongForm string

func listOf(v any) *parts {
	list, ok := v.([]any)
	if !ok {
		panic(wrongForm(fmt.Sprintf("%T instead of an array", v)))
	}
	return &parts{list: list}
}

func (p *parts) any() any {
	if p.next == len(p.list) {
		panic(wrongForm(fmt.Sprintf("an array of only %d parts", p.next)))
	}
	p.next++
	return p.list[p.next-1]
}

func (p *parts) more() bool { return p.next < len(p.list) }

func (p *parts) array() *parts { return listOf(p.any()) }

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

// sum is an integer, or the bytes of a large one.
func (p *parts) sum() *big.Int {
	v := p.any()
	if b, ok := v.([]byte); ok {
		return new(big.Int).SetBytes(b)
	}
	n, ok := integer(v)
	if !ok {
		panic(wrongForm(fmt.Sprintf("%T instead of a number", v)))
	}
	return n
}

func (p *parts) number() uint64 { return p.sum().Uint64() }
func (p *parts) instant() int64 { return p.sum().Int64() }

// end is an instant, or nil for none.
func (p *parts) end() int64 {
	if p.next < len(p.list) && p.list[p.next] == nil {
		p.next++
		return Forever
	}
	return p.instant()
}

// decodeStored decodes a value by what reads its parts.
func decodeStored(value []byte, read func(*parts)) (err error) {
	var v any
	if err := msgpack.Unmarshal(value, &v); err != nil {
		return err
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
	read(listOf(v))
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
	1: "hold", 2: "release", 3: "balance", 4: "poh.issued", 5: "poh.verified", 6: "gc", 7: "peers", 8: "http", 9: "grpc",
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
	for p.more() {
		n := p.number()
		name := names[n]
		if name == "" {
			name = fmt.Sprint("number ", n)
		}
		counts[name] = p.number()
	}
	return counts
}

func (p *parts) tally() tally {
	return tally{unchanged: p.number(), accepted: p.array().counts(kinds), refused: p.array().counts(reasons)}
}

func decodeSlot(log log, value []byte) (*storedSlot, error) {
	s := &storedSlot{holders: map[string]*storedHolder{}, nodes: map[string]*storedNode{}}
	return s, decodeStored(value, func(p *parts) {
		s.version, s.created, s.sequence, s.tally = p.number(), time.Unix(0, p.instant()), p.number(), p.array().tally()
		content := p.array()
		if log.number == 2 {
			for content.more() {
				n := content.array()
				s.nodes[n.text()] = n.node()
			}
			return
		}
		content.number() // forgotten: 0 without a TTL
		s.added = content.array().histogram().String()
		for all := content.array(); all.more(); {
			h := all.array()
			s.holders[h.text()] = h.holder()
		}
	})
}

func (p *parts) histogram() *histogram {
	h := &histogram{sum: *p.sum()}
	for i := 0; p.more(); i++ {
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
		h.at = position{sequence: p.number(), index: int(p.number()), clock: p.instant(), producer: p.text()}
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
		n.latencies(of, p.any())
	}
	for _, kind := range []string{"minor", "major"} {
		if count := p.number(); count > 0 {
			n.did["gc "+kind] = fmt.Sprint(count)
		}
	}
	if peers := p.any(); peers != nil {
		n.did["peers"] = fmt.Sprint(peers)
	}
	for list := p.array(); list.more(); {
		of := list.array()
		n.latencies(series{"http", of.text(), of.text(), of.number()}, of.any())
	}
	for list := p.array(); list.more(); {
		of := list.array()
		n.latencies(series{"grpc", of.text(), "", of.number()}, of.any())
	}
	return n
}

// latencies reads [high 64 bits of the sum, low, [classic, …], [gap, count, …]].
func (n *storedNode) latencies(of series, v any) {
	if v == nil {
		return
	}
	p := listOf(v)
	d := distribution{sum: p.sum(), fine: map[uint64]uint64{}}
	d.sum.Add(d.sum.Lsh(d.sum, 64), p.sum())
	for classic := p.array(); classic.more(); {
		d.classic = append(d.classic, classic.number())
	}
	next := uint64(0)
	for fine := p.array(); fine.more(); {
		next += fine.number()
		d.fine[next] = fine.number()
		next++
	}
	n.did[fmt.Sprint(of)] = d.String()
}

// storedCheckpoint is a checkpoint as it is stored.
type storedCheckpoint struct {
	version, partition, sequence uint64
	stream, attempt              string
	created                      time.Time
	clock                        int64
	last                         uint64
	lastDigest                   string
	messages, duplicates         uint64
	flushes                      uint64
	tally
	slots     map[int]listedSlot
	producers map[string]string
}

// listedSlot is what a checkpoint says of a slot.
type listedSlot struct {
	sequence uint64
	digest   string
}

func decodeCheckpoint(value []byte) (*storedCheckpoint, error) {
	c := &storedCheckpoint{slots: map[int]listedSlot{}, producers: map[string]string{}}
	return c, decodeStored(value, func(p *parts) {
		c.version, c.stream, c.created, c.partition = p.number(), p.text(), time.Unix(0, p.instant()), p.number()
		c.sequence, c.clock, c.attempt = p.number(), p.instant(), p.text()
		c.last, c.lastDigest = p.number(), p.bytes()
		c.messages, c.duplicates, c.flushes = p.number(), p.number(), p.number()
		c.tally = p.array().tally()
		for list := p.array(); list.more(); {
			s := list.array()
			c.slots[int(s.number())] = listedSlot{s.number(), s.bytes()}
		}
		for list := p.array(); list.more(); {
			of := list.array()
			name := of.text()
			n := numbers{epoch: of.number(), floor: of.number(), above: map[uint64]bool{}}
			for of.more() {
				for i, last := of.number(), of.number(); i <= last; i++ {
					n.above[i] = true
				}
			}
			c.producers[name] = n.String()
		}
	})
}

// did is what a node did, as it is compared with a stored one.
func (n *node) did() map[string]string {
	did := map[string]string{}
	for of, latencies := range n.latencies {
		did[fmt.Sprint(of)] = distributionOf(latencies).String()
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
