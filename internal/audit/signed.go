package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// Kept is a signed checkpoint that someone has kept.
type Kept struct {
	Name string // names it in the report: that of its file
	Note []byte
}

// claim is what a signed checkpoint says of a partition, to be compared with what the replay comes to at its sequence. There may be very many.
type claim struct {
	said
	number uint64   // in the stream CHECKPOINTS; 0: it is not there
	kept   []string // the names of the kept ones that are it
	whole  bool     // the root of the state is compared too
	other  bool     // it was signed under another policy than the recorded one
}

// said is all of a statement but whose it is.
type said struct {
	created        int64
	size, sequence uint64
	clock          events.Time
	root, state    merkle.Hash
	policy         string // as it is signed
}

func (c *claim) String() string {
	name := "checkpoint " + strconv.FormatUint(c.number, 10)
	switch {
	case c.number == 0:
		return "the kept checkpoint " + strings.Join(c.kept, ", ")
	case len(c.kept) > 0:
		name += " (kept as " + strings.Join(c.kept, ", ") + ")"
	}
	return name
}

// signed is all that was signed.
type signed struct {
	claims map[string]*[events.Partitions][]*claim // by stream; those of a partition in the order of their sizes
	found  []Difference
	untold []string
	notes  []string

	policies            map[string]string // each that was signed, by itself, so that it is kept once
	index               map[place]*claimIndex
	unverified, foreign tallied
	repeated, misplaced tallied
	strays              map[stray]uint64 // what was published as of another partition than it is of, and the number of the first that says it

	unsigned     tallied // what none of the keys has signed, nor claims to have
	lastUnsigned uint64  // the number of the last of it
}

// say returns what a statement says.
func (s *signed) say(st *attest.Statement) said {
	policy := policyText(st.Policy)
	if _, known := s.policies[policy]; !known {
		s.policies[policy] = policy
	}
	return said{st.Created, st.Size, st.Sequence, st.Clock, st.Root, st.State, s.policies[policy]}
}

// policyText is a policy as one text.
func policyText(policy map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(policy)) {
		fmt.Fprintf(&b, " %s=%s", name, policy[name])
	}
	return b.String()
}

// tallied is something that may be the same of very many checkpoints: the first is named, the others are counted.
type tallied struct {
	first string
	n     int
}

func (t *tallied) add(format string, args ...any) {
	if t.n++; t.n == 1 {
		t.first = fmt.Sprintf(format, args...)
	}
}

// tell appends what there is to be told.
func (t *tallied) tell(list []string) []string {
	switch {
	case t.n == 1:
		list = append(list, t.first)
	case t.n > 1:
		list = append(list, fmt.Sprintf("%s; and so are %d more checkpoints", t.first, t.n-1))
	}
	return list
}

// readSigned reads what was signed, in the stream and kept. Without a key it only notes that there is something.
func readSigned(ctx context.Context, o *AuditOptions) (*signed, error) {
	s := &signed{claims: map[string]*[events.Partitions][]*claim{}, policies: map[string]string{}, index: map[place]*claimIndex{}, strays: map[stray]uint64{}}
	for _, log := range jetstream.Logs() {
		s.claims[log.Stream] = &[events.Partitions][]*claim{}
	}
	if len(o.Keys) == 0 {
		return s, s.glance(ctx, o.Stored)
	}
	next := uint64(1)
	gone := func(before uint64) {
		if next < before {
			s.add(Difference{Stream: jetstream.Checkpoints, Explanation: fmt.Sprintf("signed %s gone: that stream loses none, so someone has deleted them", checkpointsText(next, before-1))})
		}
	}
	last, err := o.Stored.Checkpoints(ctx, 0, func(m jetstream.Message) error {
		gone(m.Sequence)
		next = m.Sequence + 1
		s.published(o.Keys, m)
		return nil
	})
	if err != nil && !errors.Is(err, jetstream.ErrNoStream) {
		return nil, err
	}
	gone(last + 1)
	s.claimStrays()
	for _, k := range o.Kept {
		s.keep(o.Keys, k)
	}
	return s, nil
}

func checkpointsText(first, last uint64) string {
	if first == last {
		return fmt.Sprintf("checkpoint %d is", first)
	}
	return fmt.Sprintf("checkpoints %d to %d are", first, last)
}

// glance notes that there are checkpoints which are not looked at.
func (s *signed) glance(ctx context.Context, stored Stored) error {
	last, err := stored.Checkpoints(ctx, 1, func(jetstream.Message) error { return nil })
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, jetstream.ErrNoStream):
	case err != nil: // an audit without a key does not need to read them
		s.notes = append(s.notes, fmt.Sprintf("whether there are signed checkpoints could not be read: %v", err))
	case last > 0:
		s.notes = append(s.notes, fmt.Sprintf("there are signed checkpoints, up to number %d, and none was looked at: --key names the key that has signed them", last))
	}
	return nil
}

func (s *signed) add(d Difference) {
	if d.Stream == jetstream.Checkpoints {
		d.Partition = -1
	}
	s.found = append(s.found, d)
}

// open returns the statement of a checkpoint that one of the keys has signed. The error is the one that says most.
func open(keys []attest.Key, note []byte) (*attest.Statement, error) {
	var why error
	for _, key := range keys {
		st, err := key.Open(note)
		if err == nil {
			return st, nil
		}
		if why == nil || errors.Is(err, attest.ErrSignature) {
			why = err
		}
	}
	if n := len(keys) - 1; n > 0 && errors.Is(why, attest.ErrOtherKey) {
		why = fmt.Errorf("%w; nor by another of the %d keys that are given", why, len(keys))
	}
	return nil, why
}

// published takes a message of the stream CHECKPOINTS.
func (s *signed) published(keys []attest.Key, m jetstream.Message) {
	st, err := open(keys, m.Data)
	switch {
	case errors.Is(err, attest.ErrSignature):
		s.unverified.add("checkpoint %d: %v", m.Sequence, err)
		return
	case err != nil:
		s.unsigned.add("checkpoint %d: %v", m.Sequence, err)
		s.lastUnsigned = m.Sequence
		return
	}
	parts := s.claims[st.Stream]
	if parts == nil {
		s.foreign.add("checkpoint %d is of the stream %q, which is no log", m.Sequence, st.Stream)
		return
	}
	list, is := parts[st.Partition], s.say(st)
	if m.Subject != jetstream.CheckpointSubject(logOf(st.Stream), st.Partition) {
		s.misplaced.add("checkpoint %d is of partition %d of %s, and was published under %s: it was taken for what it is of", m.Sequence, st.Partition, st.Stream, m.Subject)
		if of := (stray{place{st.Stream, st.Partition}, is}); s.strays[of] == 0 {
			s.strays[of] = m.Sequence
		}
		return
	}
	if n := len(list); n > 0 && list[n-1].created == st.Created && list[n-1].size >= st.Size {
		if first := s.before(place{st.Stream, st.Partition}, list, is); first != nil {
			s.repeated.add("checkpoint %d is checkpoint %d once more: it was passed over", m.Sequence, first.number)
			return
		}
		s.add(Difference{Stream: jetstream.Checkpoints, Key: m.Subject, Explanation: fmt.Sprintf("checkpoint %d has %d messages, and checkpoint %d before it has %d: sizes rise, so one of them was not published in its turn",
			m.Sequence, st.Size, list[n-1].number, list[n-1].size)})
	}
	parts[st.Partition] = append(list, &claim{said: is, number: m.Sequence})
}

// claimStrays adds what was published as of another partition to the claims about the partition that it is of, unless it stands there as well. Whoever
// may publish can publish what was signed once more, anywhere: so where it stands says nothing against it, nor does it come in any turn.
func (s *signed) claimStrays() {
	for _, of := range slices.SortedFunc(maps.Keys(s.strays), func(a, b stray) int { return cmp.Compare(s.strays[a], s.strays[b]) }) {
		list := &s.claims[of.stream][of.partition]
		if s.before(of.place, *list, of.said) == nil {
			*list = append(*list, &claim{said: of.said, number: s.strays[of]})
		}
	}
}

// stray is what a checkpoint says that was published as of another partition than it is of.
type stray struct {
	place
	said
}

// place is a partition of a stream.
type place struct {
	stream    string
	partition int
}

// before returns the claim of a partition's list that says the same; nil if none does. What was looked up once is indexed: checkpoints that come again
// are few, but anyone who can publish can make them many.
func (s *signed) before(at place, list []*claim, is said) *claim {
	index := s.index[at]
	if index == nil {
		index = &claimIndex{first: map[said]*claim{}}
		s.index[at] = index
	}
	for _, c := range list[index.n:] {
		if index.first[c.said] == nil {
			index.first[c.said] = c
		}
	}
	index.n = len(list)
	return index.first[is]
}

// claimIndex has the first n claims of a list by what they say.
type claimIndex struct {
	first map[said]*claim
	n     int
}

func logOf(stream string) jetstream.Log {
	for _, log := range jetstream.Logs() {
		if log.Stream == stream {
			return log
		}
	}
	return jetstream.Log{}
}

// keep takes a checkpoint that someone has kept: it must be in the stream, too.
func (s *signed) keep(keys []attest.Key, k Kept) {
	st, err := open(keys, k.Note)
	if err != nil {
		s.untold = append(s.untold, fmt.Sprintf("the kept checkpoint %s: %v", k.Name, err))
		return
	}
	parts := s.claims[st.Stream]
	if parts == nil {
		s.untold = append(s.untold, fmt.Sprintf("the kept checkpoint %s is of the stream %q, which is no log", k.Name, st.Stream))
		return
	}
	list := parts[st.Partition]
	is := s.say(st)
	var other *claim
	for _, c := range list {
		switch {
		case c.said == is:
			c.kept, c.whole = append(c.kept, k.Name), true
			return
		case c.created == is.created && c.size == is.size && c.number > 0:
			other = c
		}
	}
	c := &claim{said: is, kept: []string{k.Name}, whole: true}
	explanation := fmt.Sprintf("the kept checkpoint %s, of %d messages up to sequence %d, is not in the stream %s any more", k.Name, st.Size, st.Sequence, jetstream.Checkpoints)
	if other != nil {
		explanation = fmt.Sprintf("the kept checkpoint %s and checkpoint %d are both signed, both of %d messages, and differ (%s): two histories were signed", k.Name, other.number, st.Size, differingIn(&is, &other.said))
	}
	s.add(Difference{Stream: st.Stream, Partition: st.Partition, Key: jetstream.CheckpointSubject(logOf(st.Stream), st.Partition), Explanation: explanation})
	parts[st.Partition] = append(list, c)
}

// differingIn says in what two statements of one size differ.
func differingIn(a, b *said) string {
	var in []string
	for _, d := range []struct {
		name   string
		differ bool
	}{
		{"the root of the messages", a.root != b.root}, {"the root of the state", a.state != b.state}, {"the sequence", a.sequence != b.sequence},
		{"the clock", a.clock != b.clock}, {"the policy", a.policy != b.policy},
	} {
		if d.differ {
			in = append(in, d.name)
		}
	}
	return strings.Join(in, ", ")
}

// of returns the claims about a log's partitions that can be compared, in the order of their sequences: those of the stream made at that time. That one
// was kept of a stream made at another time is a difference. The policy is the one that is recorded.
func (s *signed) of(stream string, created int64, p *state.Policy) (all [events.Partitions][]*claim) {
	policy := policyText(p.Map())
	for i, list := range s.claims[stream] {
		for _, c := range list {
			switch {
			case c.created != created && len(c.kept) > 0:
				s.add(Difference{Stream: stream, Partition: i, Key: jetstream.CheckpointSubject(logOf(stream), i), Explanation: fmt.Sprintf(
					"%s was signed of the stream %s made at %s, which is not there any more; the present one was made at %s: it was deleted and made again, or this is another deployment with the same key",
					c, stream, stamp(time.Unix(0, c.created)), stamp(time.Unix(0, created)))})
				continue
			case c.created != created:
				s.foreign.add("%s is of the stream %s made at %s, and the present one was made at %s: it is of another log", c, stream, stamp(time.Unix(0, c.created)), stamp(time.Unix(0, created)))
				continue
			}
			c.other = c.policy != policy
			all[i] = append(all[i], c)
		}
		slices.SortStableFunc(all[i], func(a, b *claim) int {
			return cmp.Or(cmp.Compare(a.sequence, b.sequence), cmp.Compare(a.size, b.size))
		})
		for k := len(all[i]) - 1; k >= 0; k-- { // the newest is compared with all that comes out
			if c := all[i][k]; c.number > 0 {
				c.whole = true
				break
			}
		}
	}
	return all
}

// covered is a partition that has messages.
type covered struct {
	place
	compared int    // signed checkpoints of it that were compared
	newest   uint64 // the highest number of these; 0: none is in the stream CHECKPOINTS
}

// maxNamed is how many partitions a note names.
const maxNamed = 4

// uncovered appends a note of the partitions of which nothing was compared that was signed, though of others something was.
func uncovered(notes []string, partitions []covered) []string {
	var without []string
	for _, p := range partitions {
		if p.compared == 0 {
			without = append(without, fmt.Sprintf("partition %d of %s", p.partition, p.stream))
		}
	}
	n := len(without)
	if n == 0 || n == len(partitions) {
		return notes
	}
	if n > maxNamed {
		without = append(without[:maxNamed], fmt.Sprintf("and %d more", n-maxNamed))
	}
	return append(notes, fmt.Sprintf("of %d of the %d partitions that have messages there is no signed checkpoint that was compared: %s", n, len(partitions), strings.Join(without, ", ")))
}

// report adds to a report what could not be compared, and returns what is different in what was signed by itself. It is told all partitions that have messages.
func (s *signed) report(r *Report, o *AuditOptions, partitions []covered) []Difference {
	r.Untold = s.foreign.tell(s.unverified.tell(append(r.Untold, s.untold...)))
	r.Notes = s.misplaced.tell(s.repeated.tell(append(r.Notes, s.notes...)))
	if len(o.Keys) > 0 {
		r.Notes = uncovered(r.Notes, partitions)
	}
	// Anyone who can publish can put there what nobody has signed. It keeps nothing from being told if the keys have signed, behind it, of all that there is.
	if len(partitions) > 0 && !slices.ContainsFunc(partitions, func(p covered) bool { return p.newest < s.lastUnsigned }) {
		r.Notes = s.unsigned.tell(r.Notes)
	} else {
		r.Untold = s.unsigned.tell(r.Untold)
	}
	if len(o.Keys) > 0 && r.Compared.Checkpoints == 0 && len(s.found)+s.foreign.n+s.unverified.n+s.unsigned.n+len(s.untold) == 0 {
		r.Untold = append(r.Untold, "there is no signed checkpoint, so nothing was compared with what the key has signed")
	}
	return s.found
}
