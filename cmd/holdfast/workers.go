package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/internal/partition"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
)

// workers shows the aggregators and who has which partition.
type workers struct {
	Partitions bool `help:"Show the partitions rather than the workers."`
	JSON       bool `name:"json" help:"Show both, as JSON."`
	service.NATSFlags
}

func (k *workers) run(ctx context.Context, s *session) error {
	roster, err := k.survey(ctx, s)
	switch {
	case errors.Is(err, jetstream.ErrNoStream):
		return fmt.Errorf("%w: start an aggregator, which makes the streams and buckets", err)
	case roster.Workers == nil:
		return err
	case len(roster.Workers) == 0 && err == nil:
		return errors.New("no aggregator is running: start one or more; each needs only to be told where NATS is")
	case k.JSON:
		return errors.Join(json.NewEncoder(s.stdout).Encode(roster), err)
	}
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	if k.Partitions {
		showPartitions(w, roster)
	} else {
		showWorkers(w, roster)
	}
	return errors.Join(w.Flush(), err)
}

// survey asks NATS.
func (k *workers) survey(ctx context.Context, s *session) (partition.Roster, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	nc, err := jetstream.Connect(ctx, k.Options("holdfast-workers", s.logFlags.Logger(s.stderr)))
	if errors.Is(err, nats.ErrNoServers) {
		return partition.Roster{}, fmt.Errorf("%w (is NATS running? --nats says where)", err)
	}
	if err != nil {
		return partition.Roster{}, err
	}
	defer nc.Close()
	client, err := jetstream.New(nc)
	if err != nil {
		return partition.Roster{}, err
	}
	return partition.Survey(ctx, client.Bucket(jetstream.Workers))
}

// showWorkers shows a line for each worker.
func showWorkers(w io.Writer, r partition.Roster) {
	fmt.Fprintln(w, "worker\thost/pid\tversion\tup since\tpartitions\tlag HOLDS\tlag POH\tstate")
	for _, k := range r.Workers {
		at, since := "-", "-"
		if k.State != partition.Gone {
			at, since = fmt.Sprintf("%s/%d", shown(k.Host), k.PID), instant(k.Started)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n", short(k.ID), at, orDash(shown(k.Version)), since, len(k.Partitions), lag(k.Lag.Holds), lag(k.Lag.PoH), k.State)
	}
	fmt.Fprintf(w, "partitions without an owner: %s\n", list(r.Unowned))
	for _, t := range troubles(r) {
		fmt.Fprintf(w, "%s %s: %s\n", t.stream, list(t.partitions), t)
	}
}

// trouble is what is wrong with some partitions of a stream.
type trouble struct {
	stream     string
	partitions []int
	status     partition.LogStatus // of the first
	more       bool                // the reasons of others differ
}

func (t trouble) String() string {
	if t.more {
		return condition(t.status) + " (and others: --partitions shows each)"
	}
	return condition(t.status)
}

// troubles returns what is wrong, those partitions together that are in the same state.
func troubles(r partition.Roster) []trouble {
	var all []trouble
	add := func(stream string, n int, s partition.LogStatus) {
		if s.State == "" {
			return
		}
		i := slices.IndexFunc(all, func(t trouble) bool { return t.stream == stream && t.status.State == s.State })
		if i < 0 {
			i = len(all)
			all = append(all, trouble{stream: stream, status: s})
		}
		all[i].partitions = append(all[i].partitions, n)
		all[i].more = all[i].more || s.Reason != all[i].status.Reason
	}
	for _, h := range r.Partitions {
		add(jetstream.Holds.Stream, h.Partition, h.Holds)
		add(jetstream.PoH.Stream, h.Partition, h.PoH)
	}
	return all
}

// condition is what is wrong with a log's partition, and why.
func condition(s partition.LogStatus) string {
	what := escaped(string(s.State))
	if s.Reason != "" {
		what += ": " + escaped(s.Reason)
	}
	return what
}

// lag is a number of messages, or that it is not known.
func lag(n *uint64) string {
	if n == nil {
		return "?"
	}
	return strconv.FormatUint(*n, 10)
}

// showPartitions shows a line for each partition.
func showPartitions(w io.Writer, r partition.Roster) {
	fmt.Fprintln(w, "partition\towner\tsince\tlag HOLDS\tlag POH\tstate")
	owned := r.Partitions
	for n := range len(r.Partitions) + len(r.Unowned) {
		if len(owned) == 0 || owned[0].Partition != n {
			fmt.Fprintf(w, "%d\tnobody\t-\t-\t-\t-\n", n)
			continue
		}
		h := owned[0]
		owned = owned[1:]
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", n, short(h.Owner), instant(h.Since), lag(h.Holds.Pending), lag(h.PoH.Pending), conditions(h))
	}
}

// conditions is what becomes of a partition in both logs.
func conditions(h partition.Holding) string {
	var all []string
	if h.Holds.State != "" {
		all = append(all, jetstream.Holds.Stream+" "+condition(h.Holds))
	}
	if h.PoH.State != "" {
		all = append(all, jetstream.PoH.Stream+" "+condition(h.PoH))
	}
	return cmp.Or(strings.Join(all, "; "), string(partition.Serving))
}

// short is as much of a worker's ID as tells it from the others.
func short(id string) string { return id[:min(len(id), 8)] }

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// list is a list of numbers: "1, 2", or "none".
func list(numbers []int) string {
	if len(numbers) == 0 {
		return "none"
	}
	var all []string
	for _, n := range numbers {
		all = append(all, strconv.Itoa(n))
	}
	return strings.Join(all, ", ")
}
