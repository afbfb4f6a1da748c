package partition

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// TestSurvey reads members in each state, leases, and keys that are neither.
func TestSurvey(t *testing.T) {
	w := newWorld(t)
	bucket := w.client.Bucket(jetstream.Workers)
	put := func(key string, value []byte) {
		t.Helper()
		if _, err := bucket.Create(t.Context(), key, value, 0); err != nil {
			t.Fatal(err)
		}
	}
	member := func(id string, leaving bool) Worker {
		r := exampleMember
		r.ID, r.Leaving = id, leaving
		put(memberKey(id), r.encode())
		return r.Worker
	}
	lease := func(partition int, owner string, pending uint64) Holding {
		r := exampleLease
		r.Owner, r.Holds.Pending = owner, &pending
		put(leaseKey(partition), r.encode())
		return Holding{partition, r}
	}
	a, b, c, e := member("a", false), member("b", false), member("c", true), member("e", false)
	held := []Holding{lease(0, "a", 5), lease(2, "a", 7), lease(3, "c", 1), lease(4, "d", 0), lease(5, "e", 0), lease(6, "e", 2)}
	for i, state := range []State{Stopped, Failing} {
		h := &held[len(held)-2+i]
		h.Holds.Pending, h.Holds.State, h.Holds.Reason = nil, state, "gone"
		again, err := bucket.Get(t.Context(), leaseKey(h.Partition))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bucket.Update(t.Context(), leaseKey(h.Partition), h.encode(), again.Revision, 0); err != nil {
			t.Fatal(err)
		}
	}
	roster, err := Survey(t.Context(), bucket)
	if err != nil {
		t.Fatal(err)
	}
	lag := func(holds uint64) Lag { return Lag{&holds, new(uint64)} }
	want := Roster{
		Workers: []Participant{
			{Worker: Worker{ID: "d"}, State: Gone, Partitions: []int{4}, Lag: lag(0)},
			{Worker: a, State: Serving, Partitions: []int{0, 2}, Lag: lag(12)},
			{Worker: b, State: Standby, Partitions: []int{}, Lag: lag(0)},
			{Worker: c, State: Leaving, Partitions: []int{3}, Lag: lag(1)},
			{Worker: e, State: Stopped, Partitions: []int{5, 6}, Lag: Lag{PoH: new(uint64)}},
		},
		Partitions: held,
		Unowned:    []int{1, 7, 8, 9, 10, 11, 12, 13, 14, 15},
	}
	if diff := cmp.Diff(want, roster); diff != "" {
		t.Error(diff)
	}

	put("x.y", nil)
	put(leaseKey(1), []byte("junk"))
	again, err := Survey(t.Context(), bucket)
	if diff := cmp.Diff(want, again); diff != "" {
		t.Errorf("beside unreadable keys:\n%s", diff)
	}
	for _, key := range []string{"x.y", leaseKey(1)} {
		if err == nil || !strings.Contains(err.Error(), "delete it: nats kv del WORKERS "+key) {
			t.Errorf("what to do about %s is not said: %v", key, err)
		}
	}
}

// TestSurveyOfRunning surveys workers that run.
func TestSurveyOfRunning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	workers := []*worker{w.join(nil), w.join(nil)}
	w.balanced(workers)
	roster, err := Survey(t.Context(), w.client.Bucket(jetstream.Workers))
	if err != nil {
		t.Fatal(err)
	}
	if len(roster.Workers) != 2 || len(roster.Partitions) != events.Partitions || len(roster.Unowned) != 0 {
		t.Fatalf("%+v", roster)
	}
	for _, k := range roster.Workers {
		if k.State != Serving || len(k.Partitions) != events.Partitions/2 || *k.Lag.Holds != events.Partitions/2 {
			t.Errorf("%+v", k)
		}
	}
}
