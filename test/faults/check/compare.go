package check

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// compare holds a partition against what its bucket has. It returns how many keys the bucket has of it.
func (c *checker) compare(ctx context.Context, p *partition, stream Stream) (stored int, err error) {
	where := fmt.Sprintf("%s/%d", p.log.stream, p.number)
	prefix := "$KV." + p.log.bucket[len("KV_"):] + "."
	m, err := c.Source.Last(ctx, p.log.bucket, fmt.Sprintf("%sc.%d", prefix, p.number))
	if err != nil {
		return 0, err
	}
	checkpoint := &storedCheckpoint{}
	if m != nil {
		stored++
		if checkpoint, err = decodeCheckpoint(m.Data); err != nil {
			c.disagree("%s: the checkpoint: %v", where, err)
			return stored, nil
		}
		p.covered = checkpoint.sequence >= p.last
		c.compareCheckpoint(where, p, checkpoint, stream)
	} else if p.messages > 0 {
		c.disagree("%s: %d messages, and no checkpoint", where, p.messages)
	}
	roots := map[int]string{}
	value := m
	for number := range slots {
		m, err := c.Source.Last(ctx, p.log.bucket, fmt.Sprintf("%ss.%d.%d", prefix, p.number, number))
		if err != nil {
			return 0, err
		}
		want, slotName := p.slots[number], fmt.Sprintf("%s slot %d", where, number)
		listed, isListed := checkpoint.slots[number]
		switch {
		case m == nil && want == nil && isListed:
			c.disagree("%s: the checkpoint lists it, and no event belongs there", slotName)
			continue
		case m == nil && want == nil:
			continue
		case m == nil:
			c.disagree("%s: it is not in the bucket; it has %d holders and %d nodes", slotName, len(want.holders), len(want.nodes))
			continue
		}
		stored++
		s, err := decodeSlot(p.log, m.Data)
		switch {
		case err != nil:
			c.disagree("%s: %v", slotName, err)
			continue
		case want == nil:
			c.disagree("%s: it is in the bucket, and no event belongs there", slotName)
			continue
		}
		roots[number] = slotRoot(p.log, m.Data)
		if found := (listedSlot{s.sequence, roots[number]}); listed != found { // they are stored together: one was overwritten
			c.damage("%s: it is folded through %d with the root %x; the checkpoint lists it (%t) through %d with the root %x",
				slotName, found.sequence, found.root, isListed, listed.sequence, listed.root)
		}
		if s.sequence < want.touched || s.sequence > stream.Last {
			c.disagree("%s: it is folded through %d, should be %d to %d", slotName, s.sequence, want.touched, stream.Last)
		}
		if s.version != stateVersion || !s.created.Equal(stream.Created) {
			c.disagree("%s: version %d, of a stream made at %v; the stream was made at %v", slotName, s.version, s.created, stream.Created)
		}
		c.compareSlot(slotName, p, want, s)
	}
	if c.SigningKey != nil && value != nil {
		return stored, c.compareSigned(ctx, p, stream, value.Data, roots)
	}
	return stored, nil
}

func (c *checker) compareCheckpoint(where string, p *partition, got *storedCheckpoint, stream Stream) {
	equal := func(what string, want, got any) {
		if want != got {
			c.disagree("%s checkpoint: %s: %v, should be %v", where, what, got, want)
		}
	}
	equal("version", stateVersion, got.version)
	equal("stream", p.log.stream, got.stream)
	equal("stream made at", stream.Created.UnixNano(), got.created.UnixNano())
	equal("partition", uint64(p.number), got.partition)
	equal("clock", p.clock, got.clock)
	equal("sequence of the last message", p.last, got.last)
	if len(p.leaves) > 0 {
		equal("leaf of the last message", fmt.Sprintf("%x", p.leaves[len(p.leaves)-1]), fmt.Sprintf("%x", got.lastLeaf))
	}
	equal("roots of the messages", fmt.Sprintf("%x", peaks(p.leaves)), fmt.Sprintf("%x", got.peaks))
	equal("messages", p.messages, got.messages)
	equal("duplicates", p.duplicates, got.duplicates)
	// An idle partition's checkpoint moves on with the stream, so it may lie behind the last message of its partition.
	if got.sequence < p.last || got.sequence > stream.Last {
		c.disagree("%s checkpoint: sequence %d, should be %d to %d", where, got.sequence, p.last, stream.Last)
	}
	c.compareTally(where+" checkpoint", tally{refused: p.refused}, got.tally)
	for _, name := range keysOf(p.producers, got.producers) {
		want := "nothing"
		if n := p.producers[name]; n != nil {
			want = n.String()
		}
		equal(fmt.Sprintf("numbers of producer %q", name), want, got.producers[name])
	}
}

func (c *checker) compareTally(where string, want, got tally) {
	if want.unchanged != got.unchanged {
		c.disagree("%s: %d events changed nothing, should be %d", where, got.unchanged, want.unchanged)
	}
	c.compareCounts(where+": accepted", want.accepted, got.accepted)
	c.compareCounts(where+": refused", want.refused, got.refused)
}

func (c *checker) compareSlot(where string, p *partition, want *slot, got *storedSlot) {
	c.compareTally(where, tally{want.unchanged, want.accepted, want.refused}, got.tally)
	if p.log.number == 1 && want.added.String() != got.added {
		c.disagree("%s: histogram of scores: %s, should be %s", where, got.added, &want.added)
	}
	for _, id := range keysOf(want.holders, got.holders) {
		w, g := want.holders[id], got.holders[id]
		name := fmt.Sprintf("%s holder %q", where, id)
		switch {
		case w == nil:
			c.damaged(p, "%s: it is in the bucket, and has no events", name)
		case g != nil:
			c.compareHolder(name, p, w, g)
		case w.count > 0 || len(w.known(p.clock)) > 0:
			c.damaged(p, "%s: it is not in the bucket", name)
		}
	}
	for _, id := range keysOf(want.nodes, got.nodes) {
		w, g := want.nodes[id], got.nodes[id]
		name := fmt.Sprintf("%s node %q", where, id)
		if w == nil || g == nil {
			c.damaged(p, "%s: in the bucket: %t, in the stream: %t", name, g != nil, w != nil)
			continue
		}
		if w.last != g.last {
			c.damaged(p, "%s: last event at %d, should be %d", name, g.last, w.last)
		}
		did := w.did()
		for _, what := range keysOf(did, g.did) {
			if did[what] != g.did[what] {
				c.damaged(p, "%s: %s: %s, should be %s", name, what, g.did[what], did[what])
			}
		}
	}
}

func (c *checker) compareHolder(name string, p *partition, want *holder, got *storedHolder) {
	if want.count != got.count || want.last != got.last {
		c.damaged(p, "%s: %d holds, last event at %d; should be %d, at %d", name, got.count, got.last, want.count, want.last)
	}
	r := want.readings(c.instants, p.clock)
	if got.through != r.through {
		c.damaged(p, "%s: known since %d, should be %d", name, got.through, r.through)
	}
	for i, t := range c.instants {
		score := new(big.Int).Set(got.finished)
		for _, e := range got.list {
			score.Add(score, e.counted(t))
		}
		if score.Cmp(r.scores[i]) != 0 {
			c.damaged(p, "%s: score at %d: %s, should be %s", name, t, decimal(score, 12), decimal(r.scores[i], 12))
		}
	}
	var listed, known []string
	for _, e := range got.list {
		listed = append(listed, e.String())
	}
	for _, e := range want.known(p.clock) {
		known = append(known, e.String())
	}
	if !slices.Equal(listed, known) {
		c.damaged(p, "%s: holds: %q, should be %q", name, listed, known)
	}
}

// checkRejected reads REJECTED: everything that must be there is, once, and nothing else.
func (c *checker) checkRejected(ctx context.Context) error {
	decoders := map[string]*decoder{}
	for _, log := range logs {
		decoders[log.stream] = &decoder{log: log, texts: map[string]string{}}
	}
	err := c.Source.Messages(ctx, "REJECTED", "rejected.>", func(m *Message) error {
		c.report.Rejections++
		r := c.refused[m.Subject]
		switch {
		case r == nil:
			c.disagree("%s: it is in REJECTED for %s, and should not have been refused", m.Subject, m.header("Holdfast-Reason"))
			return nil
		case r.seen > 0:
			c.disagree("%s: it is in REJECTED more than once", m.Subject)
		case r.reason != m.header("Holdfast-Reason") || headerText(r.producer) != m.header("Holdfast-Producer"):
			c.disagree("%s: it is in REJECTED for %q, of producer %q; should be for %q, of %q",
				m.Subject, m.header("Holdfast-Reason"), m.header("Holdfast-Producer"), r.reason, r.producer)
		case !r.has(m, decoders):
			c.disagree("%s: in REJECTED it is not the event that was refused: %q", m.Subject, m.Data)
		}
		r.seen++
		return nil
	})
	if err != nil {
		return err
	}
	for subject, r := range c.refused {
		if r.seen == 0 {
			c.disagree("%s: it was refused for %s, and is not in REJECTED", subject, r.reason)
		}
	}
	return nil
}

// maxBody is the largest body that REJECTED keeps: 1 MiB less the room for headers.
const maxBody = 1<<20 - 4096

// headerText is a text as a header has it: control characters are blanks, and what is over 1,024 bytes is cut.
func headerText(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c == 0x7f {
			b[i] = ' '
		}
	}
	return strings.TrimSpace(strings.ToValidUTF8(string(b[:min(1024, len(b))]), ""))
}

// has tells whether a message of REJECTED has the event that was refused.
func (r *rejection) has(m *Message, decoders map[string]*decoder) bool {
	omitted := ""
	if r.event == nil && len(r.data) > maxBody {
		omitted = strconv.Itoa(len(r.data))
	}
	switch {
	case m.header("Holdfast-Omitted") != omitted:
		return false
	case omitted != "":
		return len(m.Data) == 0
	case r.event == nil:
		return string(r.data) == string(m.Data)
	}
	d := decoders["POH"]
	if _, isHold := r.event.(*Hold); isHold {
		d = decoders["HOLDS"]
	}
	b, refusal := d.body(m.Data)
	return refusal == "" && b.producer == "" && len(b.events) == 1 && b.events[0].Fingerprint() == r.event.Fingerprint()
}
