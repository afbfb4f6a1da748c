package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/audit"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// checkpointCommands are what can be asked about signed checkpoints.
type checkpointCommands struct {
	List checkpointList `cmd:"" default:"withargs" help:"List signed checkpoints: the last ones, the newest at the end."`
	Show checkpointShow `cmd:"" help:"Print one as it was signed, for whoever wants to keep it."`
}

// checkpointList lists signed checkpoints.
type checkpointList struct {
	N         int    `name:"n" short:"n" help:"How many of the last to show; 0 = all." default:"20"`
	Stream    string `help:"Of this stream alone: HOLDS or POH." placeholder:"STREAM" type:"filled"`
	Partition *int   `help:"Of this partition alone." placeholder:"N"`
	Key       string `help:"Public key, or a file that has it, by which each must be signed." placeholder:"VKEY" type:"filled"`
	JSON      bool   `name:"json" help:"Show one JSON object a line."`
	service.NATSFlags
}

// Validate is called when the flags are parsed.
func (l checkpointList) Validate() error {
	var err error
	if l.N < 0 {
		err = fmt.Errorf("-n %d: it is 0 or more", l.N)
	}
	if l.Stream != "" && l.Stream != jetstream.Holds.Stream && l.Stream != jetstream.PoH.Stream {
		err = errors.Join(err, fmt.Errorf("--stream: %q is neither %s nor %s", l.Stream, jetstream.Holds.Stream, jetstream.PoH.Stream))
	}
	if p := l.Partition; p != nil && (*p < 0 || *p >= events.Partitions) {
		err = errors.Join(err, fmt.Errorf("--partition=%d: it is 0 to %d", *p, events.Partitions-1))
	}
	return errors.Join(err, l.NATSFlags.Validate())
}

// checkpointView is a signed checkpoint as it is listed.
type checkpointView struct {
	Number    uint64        `json:"number"` // its sequence in the stream of checkpoints
	StoredAt  time.Time     `json:"stored_at"`
	Subject   string        `json:"subject"`
	Origin    string        `json:"origin"` // empty if it cannot be read, and so is what follows
	Stream    string        `json:"stream"`
	Partition int           `json:"partition"`
	Messages  uint64        `json:"messages"`
	Sequence  uint64        `json:"sequence"`
	Clock     audit.Instant `json:"clock"`
	Verified  *bool         `json:"verified"` // null: no key was given
	Problem   string        `json:"problem"`  // empty: none is known. One that is misplaced may be verified all the same
}

// errUnverified ends a command whose checkpoints are not all signed.
var errUnverified = errors.New("not every checkpoint is signed by the key")

func (l *checkpointList) run(ctx context.Context, s *session) error {
	var key *attest.Key
	if l.Key != "" {
		k, err := logKey(l.Key)
		if err != nil {
			return fmt.Errorf("--key: %w", err)
		}
		key = &k
	}
	client, disconnect, err := openStreams(ctx, l.NATSFlags, "holdfast-checkpoints", s)
	if err != nil {
		return err
	}
	defer disconnect()
	last := 0 // of a partition, all are to be read
	if l.Stream == "" && l.Partition == nil {
		last = l.N
	}
	var list []checkpointView
	there, err := audit.ReadCheckpoints(ctx, client, last, func(m jetstream.Message) error {
		v := viewCheckpoint(m, key)
		if !l.wants(m.Subject) {
			return nil
		}
		if list = append(list, v); l.N > 0 && len(list) > l.N {
			list = list[1:]
		}
		return nil
	})
	if errors.Is(err, jetstream.ErrNoStream) {
		return fmt.Errorf("%w: start an aggregator, which makes the streams and buckets", err)
	}
	if err != nil {
		return err
	}
	if len(list) == 0 && !l.JSON {
		return s.errors.print(plainLines(l.none(there)))
	}
	return l.show(s, list)
}

// none says that nothing is listed, though the stream has so many checkpoints of others.
func (l *checkpointList) none(there uint64) string {
	of := ""
	if l.Stream != "" {
		of = " of " + l.Stream
	}
	if l.Partition != nil {
		of = fmt.Sprintf(" of partition %d", *l.Partition) + of
	}
	if there > 0 {
		return fmt.Sprintf("There is no signed checkpoint%s: %s has %s.", of, jetstream.Checkpoints, count(int64(there), "other"))
	}
	return fmt.Sprintf("There is no signed checkpoint%s: aggregators sign with --signing-key.", of)
}

// wants tells whether the flags ask for the checkpoints of a subject.
func (l *checkpointList) wants(subject string) bool {
	for _, log := range jetstream.Logs() {
		for p := range events.Partitions {
			if (l.Stream == "" || l.Stream == log.Stream) && (l.Partition == nil || *l.Partition == p) && jetstream.CheckpointSubject(log, p) == subject {
				return true
			}
		}
	}
	return l.Stream == "" && l.Partition == nil
}

// isUnder tells whether a subject is that of the checkpoints of a partition of a stream.
func isUnder(subject, stream string, partition int) bool {
	return slices.ContainsFunc(jetstream.Logs(), func(log jetstream.Log) bool {
		return log.Stream == stream && jetstream.CheckpointSubject(log, partition) == subject
	})
}

// viewCheckpoint reads a checkpoint, and verifies it if a key is given.
func viewCheckpoint(m jetstream.Message, key *attest.Key) checkpointView {
	v := checkpointView{Number: m.Sequence, StoredAt: m.Time, Subject: m.Subject, Partition: -1, Clock: audit.Instant(events.Open)}
	st, err := attest.Unverified(m.Data)
	if key != nil {
		_, keyErr := key.Open(m.Data)
		verified := keyErr == nil
		v.Verified, err = &verified, errors.Join(err, keyErr)
	}
	if st != nil {
		v.Origin, v.Stream, v.Partition, v.Messages, v.Sequence, v.Clock = st.Origin(), st.Stream, st.Partition, st.Size, st.Sequence, audit.Instant(st.Clock)
	}
	switch {
	case err != nil:
		v.Problem = err.Error()
	case !isUnder(m.Subject, st.Stream, st.Partition):
		v.Problem = fmt.Sprintf("misplaced: published under %s", m.Subject)
	}
	return v
}

func (l *checkpointList) show(s *session, list []checkpointView) error {
	bad := false
	t := table{align: "rlrrrlll", head: true}
	t.add("number", "stream", "partition", "messages", "sequence", "clock", "stored at", "signature")
	for _, v := range list {
		bad = bad || v.Verified != nil && !*v.Verified
		if l.JSON {
			if err := printJSON(s.stdout, v); err != nil {
				return err
			}
			continue
		}
		signature := "not looked at"
		switch {
		case v.Problem != "" && v.Verified != nil && *v.Verified:
			signature = "verified; " + v.Problem
		case v.Problem != "":
			signature = v.Problem
		case v.Verified != nil:
			signature = "verified"
		}
		if v.Origin == "" {
			t.add(number(v.Number), shown(v.Subject), "-", "-", "-", "-", instant(v.StoredAt), signature)
			continue
		}
		t.add(number(v.Number), v.Stream, number(uint64(v.Partition)), number(v.Messages), number(v.Sequence), events.Time(v.Clock).String(), instant(v.StoredAt), signature)
	}
	if !l.JSON {
		if err := s.screen.print(t.lines("")); err != nil {
			return err
		}
	}
	if bad {
		return errUnverified
	}
	return nil
}

// checkpointShow prints one signed checkpoint.
type checkpointShow struct {
	Number uint64 `arg:"" help:"Its number, as listed."`
	Key    string `help:"Public key, or a file that has it, by which it must be signed." placeholder:"VKEY" type:"filled"`
	service.NATSFlags
}

// Validate is called when the flags are parsed.
func (c checkpointShow) Validate() error {
	if c.Number == 0 {
		return errors.New("there is no checkpoint 0: numbers begin with 1")
	}
	return c.NATSFlags.Validate()
}

func (c *checkpointShow) run(ctx context.Context, s *session) error {
	client, disconnect, err := openStreams(ctx, c.NATSFlags, "holdfast-checkpoints", s)
	if err != nil {
		return err
	}
	defer disconnect()
	m, err := client.Message(ctx, jetstream.Checkpoints, c.Number)
	if errors.Is(err, jetstream.ErrSequenceNotFound) {
		return fmt.Errorf("there is no checkpoint %d (holdfast checkpoints lists them)", c.Number)
	}
	if err != nil {
		return err
	}
	if c.Key != "" {
		key, err := logKey(c.Key)
		if err != nil {
			return fmt.Errorf("--key: %w", err)
		}
		if _, err := key.Open(m.Data); err != nil {
			return fmt.Errorf("checkpoint %d: %w", c.Number, err)
		}
	}
	_, err = s.stdout.Write(m.Data)
	return err
}
