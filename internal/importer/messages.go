package importer

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/wire"
)

// maxSeen bounds what the record has of the numbers that messages carry, in bytes.
const maxSeen = 600 << 10

// seen is what is known of the numbers of the source's producers, in both logs. An event that its producer sent twice, under
// one number, counts once in the source, so it is copied once.
type seen [2][jetstream.Partitions]state.Seen

// The logs, as indices of seen.
const (
	seenHolds = iota
	seenPoH
)

func (s *seen) empty() bool {
	for i := range s {
		for p := range s[i] {
			if !s[i][p].Empty() {
				return false
			}
		}
	}
	return true
}

// append appends [holds, PoH], each being an array of what is known of its partitions.
func (s *seen) append(b []byte) []byte {
	b = wire.AppendArray(b, len(s))
	for i := range s {
		b = wire.AppendArray(b, len(s[i]))
		for p := range s[i] {
			b = s[i][p].Append(b)
		}
	}
	return b
}

// readSeen reads what append has written; of nothing it is empty.
func readSeen(data []byte) (*seen, error) {
	s := &seen{}
	if len(data) == 0 {
		return s, nil
	}
	r := wire.NewReader(string(data))
	if r.Array() != len(s) {
		r.Fail("not the numbers of %d logs", len(s))
	}
	for i := range s {
		if r.Array() != len(s[i]) {
			r.Fail("not the numbers of %d partitions", len(s[i]))
		}
		for p := range s[i] {
			s[i][p] = state.ReadSeen(&r)
		}
	}
	if err := r.Close(); err != nil {
		return nil, fmt.Errorf("the record of the import is damaged: the numbers of producers: %w", err)
	}
	return s, nil
}

// broken is a message, or an event of one, that was refused: a line of NAME.refused.
type broken struct {
	Stream   string    `json:"stream"`
	Sequence uint64    `json:"sequence"`
	Index    int       `json:"index"` // of the event in its message, from 0
	Subject  string    `json:"subject"`
	Time     time.Time `json:"time"` // when the source stored it
	Producer string    `json:"producer,omitempty"`
	Reason   string    `json:"reason"`
	Field    string    `json:"field,omitempty"`
	Detail   string    `json:"detail"`
	Body     []byte    `json:"body"` // base64 of the message, or of the one event as an envelope, which can be published as it is
}

// contents reads messages into blocks. What becomes of a message is a function of itself and of the numbers that came before.
type contents struct {
	stream string
	seen   *seen
	holds  []events.HoldEvent // reused
	poh    []events.PoHEvent  // reused
}

// logEvents is what differs between the events of the two logs.
type logEvents[E any] struct {
	log      jetstream.Log
	seen     int
	encode   func(b []byte, o events.Origin, list []E) []byte
	validate func(e *E, clock events.Time) error
	id       func(e *E) string
	add      func(b *block, e *E)
}

var holdEvents = &logEvents[events.HoldEvent]{
	log: jetstream.Holds, seen: seenHolds, encode: events.AppendHolds,
	validate: func(e *events.HoldEvent, clock events.Time) error {
		if err := e.Validate(); err != nil {
			return err
		}
		return e.CheckAhead(clock)
	},
	id:  func(e *events.HoldEvent) string { return e.Holder },
	add: func(b *block, e *events.HoldEvent) { b.holds = append(b.holds, *e) },
}

var pohEvents = &logEvents[events.PoHEvent]{
	log: jetstream.PoH, seen: seenPoH, encode: events.AppendPoH,
	validate: func(e *events.PoHEvent, _ events.Time) error { return e.Validate() },
	id:       func(e *events.PoHEvent) string { return e.Node },
	add:      func(b *block, e *events.PoHEvent) { b.poh = append(b.poh, *e) },
}

// read adds what a message says to a block. Its kind decides which log it is for, as in a file of NDJSON.
func (c *contents) read(m *jetstream.Message, b *block) {
	if !isPoHEnvelope(m.Data) {
		origin, list, err := events.DecodeHolds(m.Data, c.holds[:0])
		c.holds = list[:0]
		if err == nil {
			take(c, holdEvents, m, b, origin, list)
			return
		}
		if refusal := refusalOf(err); refusal.Reason != events.UnknownKind {
			c.refuse(m, b, 0, "", m.Data, refusal)
			return
		}
	}
	origin, list, err := events.DecodePoH(m.Data, c.poh[:0])
	c.poh = list[:0]
	if err != nil {
		c.refuse(m, b, 0, "", m.Data, refusalOf(err))
		return
	}
	take(c, pohEvents, m, b, origin, list)
}

// isPoHEnvelope tells whether a message begins like an envelope of the log of Proof of History: an array, a version of one
// byte, the log's number.
func isPoHEnvelope(data []byte) bool {
	return len(data) > 2 && data[0]&0xf0 == 0x90 && data[2] == 2
}

// take adds those of a message's events that have not come before, as the fold of the source does it. Starts are held against
// the time when the source stored the message.
func take[E any](c *contents, s *logEvents[E], m *jetstream.Message, b *block, origin events.Origin, list []E) {
	partition := partitionOf(s.log, m.Subject, s.id(&list[0]))
	fresh, err := c.seen[s.seen][partition].Fresh(origin, len(list))
	if err != nil {
		for i := range list {
			c.refuse(m, b, i, origin.Producer, s.encode(nil, events.Origin{}, list[i:i+1]), refusalOf(err))
		}
		return
	}
	b.totals.Skipped += int64(len(list))
	for _, r := range fresh {
		b.totals.Skipped -= int64(r.To - r.From)
		for i := r.From; i < r.To; i++ {
			err := s.validate(&list[i], events.Time(m.Time.UnixMilli()))
			if own := events.PlaceOf(s.id(&list[i])).Partition; err == nil && own != partition {
				err = events.Refuse(events.Misrouted, "", "%s belongs to partition %d, and came with the events of partition %d", quote(s.id(&list[i])), own, partition)
			}
			if err != nil {
				c.refuse(m, b, i, origin.Producer, s.encode(nil, events.Origin{}, list[i:i+1]), refusalOf(err))
				continue
			}
			s.add(b, &list[i])
			b.totals.Events++
		}
	}
}

// partitionOf returns the partition that a message counts as one of: what its subject says, if it is one of a log's
// partition, else that of its first event.
func partitionOf(log jetstream.Log, subject, id string) int {
	for p := range jetstream.Partitions {
		if subject == log.PartitionSubject(p) {
			return p
		}
	}
	return events.PlaceOf(id).Partition
}

// refuse notes a message, or one event of it, that is none.
func (c *contents) refuse(m *jetstream.Message, b *block, index int, producer string, body []byte, refusal *events.Refusal) {
	b.totals.Refused++
	if len(b.reports) < MaxReports {
		b.reports = append(b.reports, Refused{Line: int64(m.Sequence), Refusal: refusal})
	}
	line, err := json.Marshal(broken{
		Stream: c.stream, Sequence: m.Sequence, Index: index, Subject: m.Subject, Time: m.Time, Producer: producer,
		Reason: refusal.Reason.String(), Field: refusal.Field, Detail: refusal.Detail, Body: body,
	})
	if err != nil {
		panic("importer: a line of refused messages: " + err.Error()) // of texts and numbers, so never
	}
	b.refused = append(append(b.refused, line...), '\n')
}
