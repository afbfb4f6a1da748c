package partition

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// State is what a worker does, or what becomes of a partition that it has.
type State string

// The states of a worker. One that would be Serving, were it not for a partition in one of the states below, has the gravest of
// those.
const (
	Serving State = "serving" // it has partitions
	Standby State = "standby" // it has none, and takes over when it is needed
	Leaving State = "leaving" // it hands over what it has, and ends
	Gone    State = "gone"    // it says no more that it is there, and its leases are about to expire
)

// The states of a log's partition that has an owner and is not served as it should be, the gravest last.
const (
	Loading State = "loading" // what is stored of it is read, and it is not known yet what waits
	Failing State = "failing" // something is in the way, and is tried again
	Stopped State = "stopped" // it cannot go on without an operator's decision
)

// gravity orders the states that a worker gets by its partitions.
var gravity = map[State]int{Serving: 1, Loading: 2, Failing: 3, Stopped: 4}

// Roster is who takes part and who has which partition, as of one moment. It marshals to JSON.
type Roster struct {
	Workers    []Participant `json:"workers"`    // those that started first come first
	Partitions []Holding     `json:"partitions"` // those that have an owner, by number
	Unowned    []int         `json:"unowned"`    // the others, by number
}

// Participant is a worker in a Roster. Of one that is Gone, only the ID is known.
type Participant struct {
	Worker
	State      State `json:"state"`
	Partitions []int `json:"partitions"` // what it has, by number
	Lag        Lag   `json:"lag"`        // the sum over them
}

// Lag is how many messages wait to be folded, as their partitions' owners last said, which is when they renewed their
// leases; nil = it is not known of all of them.
type Lag struct {
	Holds *uint64 `json:"HOLDS"`
	PoH   *uint64 `json:"POH"`
}

// Holding is a partition that has an owner.
type Holding struct {
	Partition int `json:"partition"`
	Tenancy
}

// Loader reads a bucket; see [jetstream.Bucket].
type Loader interface {
	Load(ctx context.Context, filter string) ([]jetstream.Entry, error)
}

// Survey reads the members and leases from the bucket [jetstream.Workers]. If there are keys that it cannot read, it returns
// all others, and an error that names them.
func Survey(ctx context.Context, bucket Loader) (Roster, error) {
	entries, err := bucket.Load(ctx, jetstream.AllKeys)
	if err != nil {
		return Roster{}, err
	}
	r := Roster{Workers: []Participant{}, Partitions: []Holding{}, Unowned: []int{}}
	var errs []error
	workers := map[string]*Participant{}
	for _, e := range entries {
		if strings.HasPrefix(e.Key, leasePrefix) {
			n, lease, err := decodeLease(e.Key, e.Value)
			if err == nil {
				r.Partitions = append(r.Partitions, Holding{n, lease})
			}
			errs = append(errs, advise(e.Key, err))
			continue
		}
		member, err := decodeMember(e.Key, e.Value)
		if err == nil {
			workers[member.ID] = newParticipant(member)
		}
		errs = append(errs, advise(e.Key, err))
	}
	slices.SortFunc(r.Partitions, func(a, b Holding) int { return cmp.Compare(a.Partition, b.Partition) })
	for _, h := range r.Partitions {
		if workers[h.Owner] == nil {
			workers[h.Owner] = &Participant{Worker: Worker{ID: h.Owner}, State: Gone, Lag: noLag()}
		}
		workers[h.Owner].add(h)
	}
	for _, w := range workers {
		r.Workers = append(r.Workers, *w)
	}
	slices.SortFunc(r.Workers, func(a, b Participant) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	for n := range events.Partitions {
		if !slices.ContainsFunc(r.Partitions, func(h Holding) bool { return h.Partition == n }) {
			r.Unowned = append(r.Unowned, n)
		}
	}
	return r, errors.Join(errs...)
}

// advise adds to an error about a key what to do about it.
func advise(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w (if no aggregator of a newer version runs, delete it: nats kv del %s %s)", err, jetstream.Workers, key)
}

func newParticipant(m memberRecord) *Participant {
	state := Standby
	if m.Leaving {
		state = Leaving
	}
	return &Participant{Worker: m.Worker, State: state, Partitions: []int{}, Lag: noLag()}
}

func noLag() Lag { return Lag{new(uint64), new(uint64)} }

func (p *Participant) add(h Holding) {
	if p.State == Standby {
		p.State = Serving
	}
	p.Partitions = append(p.Partitions, h.Partition)
	p.Lag = Lag{sum(p.Lag.Holds, h.Holds.Pending), sum(p.Lag.PoH, h.PoH.Pending)}
	for _, s := range []State{h.Holds.State, h.PoH.State} {
		if gravity[p.State] > 0 && gravity[s] > gravity[p.State] {
			p.State = s
		}
	}
}

// sum adds what is known.
func sum(a, b *uint64) *uint64 {
	if a == nil || b == nil {
		return nil
	}
	return new(*a + *b)
}
