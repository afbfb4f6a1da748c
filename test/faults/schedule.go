package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/city-chain/holdfast/test/faults/rig"
)

// kind is a kind of faults.
type kind struct {
	name    string
	weight  int  // how often it is drawn, compared with the others
	server  bool // it is done to a NATS server: one at a time
	servers int  // it needs at least so many
	signals bool // it needs that processes can be stopped for a while
	disk    bool // it needs a small file system
	hold    span // how long it lasts
	make    func(ctx context.Context, r *run, f fault) error
}

// span is a shortest and a longest time.
type span struct{ from, to time.Duration }

const (
	ms = time.Millisecond
	s  = time.Second
)

// lease is how long a worker that has died keeps its partitions.
const lease = 3 * s

// scaling is the name of the faults that change how many workers there are.
const scaling = "scale"

// kinds are all kinds of faults.
var kinds = []kind{
	{name: "kill-worker", weight: 5, hold: span{50 * ms, 4 * s}, make: killWorker},
	{name: "stop-worker", weight: 4, signals: true, hold: span{lease + 500*ms, 8 * s}, make: pauseWorker},
	{name: "pause-worker", weight: 3, signals: true, hold: span{100 * ms, lease - 500*ms}, make: pauseWorker},
	{name: "rolling-restart", weight: 2, make: rollingRestart},
	{name: scaling, weight: 5, make: scale},
	{name: "restart-exporter", weight: 1, hold: span{0, 2 * s}, make: restartExporter},
	{name: "kill-server", weight: 3, server: true, hold: span{50 * ms, 5 * s}, make: killServer},
	{name: "full-disk", weight: 2, server: true, disk: true, hold: span{2 * s, 6 * s}, make: fullDisk},
	{name: "kill-leader-of-HOLDS", weight: 2, server: true, servers: 3, hold: span{50 * ms, 8 * s}, make: killLeader("HOLDS")},
	{name: "kill-leader-of-HOLDS_STATE", weight: 2, server: true, servers: 3, hold: span{50 * ms, 8 * s}, make: killLeader("KV_HOLDS_STATE")},
	{name: "kill-leader-of-POH", weight: 1, server: true, servers: 3, hold: span{50 * ms, 8 * s}, make: killLeader("POH")},
	{name: "kill-leader-of-WORKERS", weight: 2, server: true, servers: 3, hold: span{50 * ms, 8 * s}, make: killLeader("KV_WORKERS")},
	{name: "step-down-WORKERS", weight: 3, servers: 3, make: stepDown("KV_WORKERS")},
	{name: "cut-server", weight: 3, server: true, servers: 3, hold: span{2 * s, 14 * s}, make: cutServer(false)},
	{name: "silence-server", weight: 2, server: true, servers: 3, hold: span{2 * s, 14 * s}, make: cutServer(true)},
}

func kindNames() (names []string) {
	for _, k := range kinds {
		names = append(names, k.name)
	}
	return names
}

// fault is one that is to be made.
type fault struct {
	kind
	after time.Duration // the one before it was begun
	hold  time.Duration
	pick  uint64 // which process, as there are at that time
	tried int    // how often it turned out not to have been made
	wait  bool   // for a server fault: whether all servers are well again before the next one
}

// ofServers tells whether it is NATS that is broken, and not only those who use it.
func (k *kind) ofServers() bool { return k.server || k.servers > 1 }

// possible returns the kinds that can be made here of those that are asked for, and why others cannot.
func (o *Options) possible(folder string) (able []kind, not []string, err error) {
	for _, name := range o.Kinds {
		if !slices.Contains(kindNames(), name) {
			return nil, nil, fmt.Errorf("there is no kind of faults %q", name)
		}
	}
	mount := rig.CanMount(folder)
	for _, k := range kinds {
		switch {
		case len(o.Kinds) > 0 && !slices.Contains(o.Kinds, k.name), k.servers > o.Servers:
		case k.signals && !rig.CanStop:
			not = append(not, k.name+": this system cannot stop processes for a while")
		case k.disk && mount != nil:
			not = append(not, k.name+": "+mount.Error())
		default:
			able = append(able, k)
		}
	}
	if len(able) == 0 {
		return nil, not, fmt.Errorf("none of the kinds of faults can be made: %v", not)
	}
	return able, not, nil
}

// plan makes the schedule: each kind once, in any order, and from then on by weight.
func (o *Options) plan(able []kind) []fault {
	random := rand.New(rand.NewPCG(o.Seed, 1))
	var all []fault
	for _, i := range random.Perm(len(able)) {
		all = append(all, fault{kind: able[i]})
	}
	var drawn []kind
	for _, k := range able {
		drawn = append(drawn, slices.Repeat([]kind{k}, k.weight)...)
	}
	for len(all) < o.Faults {
		all = append(all, fault{kind: drawn[random.IntN(len(drawn))]})
	}
	all = all[:o.Faults]
	if i := slices.IndexFunc(able, func(k kind) bool { return k.name == scaling }); i >= 0 {
		breakSolitude(all, len(able), able[i])
	}
	mean := o.Duration / time.Duration(max(1, o.Faults))
	for i := range all {
		f := &all[i]
		f.after = mean/4 + time.Duration(random.Int64N(int64(3*mean/2)+1))
		f.hold = f.kind.hold.from + time.Duration(random.Int64N(int64(f.kind.hold.to-f.kind.hold.from)+1))
		f.pick = random.Uint64()
		f.wait = random.IntN(3) > 0
	}
	if o.Unfenced {
		stopAtEnd(all)
	}
	return all
}

// mostAlone is how many faults in a row there are at most while there is one worker, which nobody can overlap with.
const mostAlone = 3

// breakSolitude makes a fault a scaling where mostAlone have found one worker, from the n-th fault on.
func breakSolitude(all []fault, n int, scale kind) {
	scaled, alone := 0, 0
	for i := range all {
		if alone >= mostAlone && i >= n {
			all[i].kind = scale
		}
		switch {
		case all[i].name == scaling:
			alone = 0
			scaled++
		case scaled > 0 && sizes[(scaled-1)%len(sizes)] == 1:
			alone++
		}
	}
}

// stopAtEnd makes the last faults stop most of the workers at once, until the load is over and others have folded it. What one that wakes up
// then stores, nobody stores again: without fencing it shows.
func stopAtEnd(all []fault) {
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == "stop-worker" })
	for n := range min(3, len(all)) {
		f := &all[len(all)-1-n]
		f.kind, f.hold = kinds[i], kinds[i].hold.to
		if n < 2 {
			f.after = 50 * ms
		}
	}
}
