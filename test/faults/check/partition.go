package check

import "fmt"

// partition is one partition of a log, folded naively.
type partition struct {
	log    log
	number int
	policy policy
	decoder

	clock      int64  // the highest time of a message, in Unix milliseconds
	last       uint64 // the sequence of the last message, 0 = none
	messages   uint64
	leaves     []string // the messages, as the leaves of the partition's tree
	events     uint64   // each time that they came
	duplicates uint64
	refused    map[string]uint64   // before they reached a slot
	producers  map[string]*numbers // by name
	slots      map[int]*slot
	rejected   map[string]*rejection // by subject
	waiting    []waitingRelease      // some of them may not be waiting any more
	singles    map[string]int        // how often each Nats-Msg-Id came

	covered bool // its checkpoint covers the last message: what is wrong of its holders and nodes is damage, and not only late
}

// slot counts what became of the events that reached it.
type slot struct {
	touched   uint64            // the sequence of the last event that reached it
	accepted  map[string]uint64 // by kind
	unchanged uint64
	refused   map[string]uint64
	holders   map[string]*holder
	added     histogram
	nodes     map[string]*node
	series    int // nodes, HTTP series and gRPC series
}

// rejection is what REJECTED must have.
type rejection struct {
	reason, producer string
	event            event  // nil: the message could not be decoded
	data             []byte // of that message
	seen             int
}

// position is where an event stands.
type position struct {
	sequence uint64
	index    int
	clock    int64
	producer string
}

func newPartition(log log, number int, policy policy) *partition {
	return &partition{
		log: log, number: number, policy: policy, decoder: decoder{log: log, texts: map[string]string{}},
		refused: map[string]uint64{}, producers: map[string]*numbers{}, slots: map[int]*slot{},
		rejected: map[string]*rejection{}, singles: map[string]int{},
	}
}

// message folds the next message.
func (p *partition) message(m *Message) {
	p.messages++
	p.clock = max(p.clock, m.Time.UnixMilli())
	p.expireWaiting()
	p.last, p.leaves = m.Sequence, append(p.leaves, messageLeaf(m))
	if id := m.header("Nats-Msg-Id"); id != "" {
		p.singles[id]++
	}
	b, refusal := p.body(m.Data)
	if refusal != "" {
		p.events++
		p.reject(p.refused, position{sequence: m.Sequence}, &rejection{reason: refusal, data: m.Data})
		return
	}
	p.events += uint64(len(b.events))
	var fresh []bool
	if b.producer != "" {
		fresh, refusal = p.admit(&b)
	}
	for i, e := range b.events {
		at := position{m.Sequence, i, p.clock, b.producer}
		switch {
		case refusal != "":
			p.reject(p.refused, at, &rejection{reason: refusal, event: e})
		case fresh == nil || fresh[i]:
			p.event(e, at)
		}
	}
}

// event folds one event.
func (p *partition) event(e event, at position) {
	partition, number := placeOf(e.subject())
	reason := e.invalid()
	if reason == "" && partition != p.number {
		reason = "misrouted"
	}
	if reason != "" {
		p.reject(p.refused, at, &rejection{reason: reason, event: e})
		return
	}
	s := p.slots[number]
	if s == nil {
		s = &slot{accepted: map[string]uint64{}, refused: map[string]uint64{}, holders: map[string]*holder{}, nodes: map[string]*node{}}
		p.slots[number] = s
	}
	s.touched = at.sequence
	var unchanged bool
	var kind string
	switch e := e.(type) {
	case *Hold:
		kind = e.Kind
		unchanged, reason = p.hold(s, e, at)
	case *Proof:
		kind = e.Kind
		reason = p.proof(s, e, at)
	}
	switch {
	case reason != "":
		p.reject(s.refused, at, &rejection{reason: reason, event: e})
	case unchanged:
		s.unchanged++
	default:
		s.accepted[kind]++
	}
}

// reject notes that an event is refused.
func (p *partition) reject(count map[string]uint64, at position, r *rejection) {
	count[r.reason]++
	r.producer = at.producer
	subject := fmt.Sprintf("rejected.%s.%d.%d", p.log.stream, at.sequence, at.index)
	p.rejected[subject] = r
}
