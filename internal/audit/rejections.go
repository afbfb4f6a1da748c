package audit

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/city-chain/holdfast/jetstream"
)

// rejection is what is compared of a refused event.
type rejection struct {
	stream   string
	sequence uint64
	reason   string
	producer string
	digest   [sha256.Size]byte // of the event; zero if it was too large to be kept
	omitted  int
}

func rejectionOf(r *jetstream.Rejection) rejection {
	k := rejection{stream: r.Stream, sequence: r.Sequence, reason: r.Reason, producer: r.Producer, omitted: r.Omitted}
	if k.omitted == 0 && len(r.Event) > jetstream.MaxRejected {
		k.omitted = len(r.Event)
	}
	if k.omitted == 0 {
		k.digest = sha256.Sum256(r.Event)
	}
	return k
}

// expected is what a log must have refused, and may have.
type expected struct {
	stream  string
	created time.Time
	through uint64
	must    map[string]rejection
	may     map[string]rejection
}

func (t *trial[E, C]) expected() expected {
	e := expected{stream: t.log.Stream, created: t.span.state.Created, through: t.span.through, must: map[string]rejection{}, may: map[string]rejection{}}
	for _, j := range t.judges {
		for s, r := range j.must {
			e.must[s] = r
		}
		for s, r := range j.may {
			e.may[s] = r
		}
	}
	return e
}

// rejections is what the stream REJECTED has.
type rejections struct {
	kept  map[string]keptRejection // by subject
	found []Difference             // what is wrong with it by itself
}

type keptRejection struct {
	rejection
	at    time.Time
	times int
}

// readRejections reads the stream REJECTED.
func readRejections(ctx context.Context, s Stored) (*rejections, error) {
	rs := &rejections{kept: map[string]keptRejection{}}
	err := s.Rejections(ctx, func(m jetstream.Message) error {
		r, err := jetstream.ParseRejection(m)
		if err != nil {
			rs.found = append(rs.found, Difference{Stream: jetstream.Rejected, Partition: -1, Key: m.Subject, Explanation: err.Error()})
			return nil
		}
		k := rs.kept[m.Subject]
		rs.kept[m.Subject] = keptRejection{rejectionOf(&r), m.Time, k.times + 1}
		return nil
	})
	return rs, err
}

// judge compares what was refused with what had to be.
func (rs *rejections) judge(r *Report, logs ...expected) []Difference {
	found := rs.found
	add := func(subject, format string, args ...any) *Difference {
		found = append(found, Difference{Stream: jetstream.Rejected, Partition: -1, Key: subject, Explanation: fmt.Sprintf(format, args...)})
		return &found[len(found)-1]
	}
	older := 0
	byStream := map[string]*expected{}
	for i := range logs {
		byStream[logs[i].stream] = &logs[i]
	}
	for subject, kept := range rs.kept {
		log := byStream[kept.stream]
		if log == nil {
			add(subject, "it names a stream that is no log")
			continue
		}
		want, ok := log.must[subject]
		if !ok {
			want, ok = log.may[subject]
		}
		switch {
		case kept.at.Before(log.created):
			older++
		case !ok && kept.sequence > log.through: // the stream was looked at after this was read
			add(subject, "%s has no message %d: it was added", kept.stream, kept.sequence)
		case !ok:
			add(subject, "no event of message %d of %s was refused there: it was added", kept.sequence, kept.stream).Message = &Place{Sequence: kept.sequence}
		case kept.times > 1:
			add(subject, "it is there %d times", kept.times)
		case kept.rejection != want:
			d := add(subject, "the event that was refused, its reason or its producer was changed")
			d.Values = differing(kept.values(), want.values())
		default:
			r.Compared.Rejections++
		}
	}
	for i := range logs {
		for subject, want := range logs[i].must {
			if _, ok := rs.kept[subject]; !ok || rs.kept[subject].at.Before(logs[i].created) {
				add(subject, "an event of message %d of %s was refused (%s), and that is not recorded: it was removed", want.sequence, want.stream, want.reason).Message = &Place{Sequence: want.sequence}
			}
		}
	}
	switch {
	case older == 1:
		r.Notes = append(r.Notes, "1 rejection is older than the streams, of another by its name, and was not compared")
	case older > 1:
		r.Notes = append(r.Notes, fmt.Sprintf("%d rejections are older than the streams, of others by their names, and were not compared", older))
	}
	slices.SortFunc(found, func(a, b Difference) int { return cmp.Compare(a.Key, b.Key) })
	return found
}

func (k *rejection) values() map[string]string {
	m := map[string]string{"reason": k.reason, "producer": k.producer, "digest of the event": fmt.Sprintf("%x", k.digest)}
	if k.omitted > 0 {
		m["bytes that were not kept"] = fmt.Sprint(k.omitted)
	}
	if bytes.Equal(k.digest[:], make([]byte, len(k.digest))) {
		delete(m, "digest of the event")
	}
	return m
}
