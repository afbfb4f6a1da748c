package state

import (
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/wire"
)

// Seen is what is known of the numbers of producers' events in one partition, as its fold knows them: which have come
// already. The zero value knows of none. It is not safe for concurrent use.
type Seen struct{ producers }

// Fresh takes in the numbers of a batch of n ≥ 1 events, and returns those of its events, as rising ranges of indices from
// 0, that have not come before. A batch that is not numbered is fresh as a whole. The error, an [*events.Refusal], is the one
// with which the fold refuses the batch, and nothing has changed then.
func (s *Seen) Fresh(o events.Origin, n int) ([]Indices, error) {
	if o.Producer == "" {
		return []Indices{{0, n}}, nil
	}
	if s.byName == nil {
		s.byName = map[string]*producer{}
	}
	fresh, err := s.admit(o, n, maxProducers)
	if err != nil {
		return nil, err
	}
	list := make([]Indices, len(fresh))
	for i, r := range fresh {
		list[i] = Indices{int(r.first - o.First), int(r.last-o.First) + 1}
	}
	return list, nil
}

// Indices are From to To, the latter excluded.
type Indices struct{ From, To int }

// Empty tells whether no numbers are known.
func (s *Seen) Empty() bool { return len(s.byName) == 0 }

// Append appends what is known, in canonical MessagePack.
func (s *Seen) Append(b []byte) []byte { return s.append(b) }

// ReadSeen reads what Append has written. What is wrong with it shows in r.
func ReadSeen(r *wire.Reader) Seen { return Seen{readProducers(r)} }
