package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/city-chain/holdfast/internal/rejected"
	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// rejectedCommands are what can be done about refused events.
type rejectedCommands struct {
	List  rejectedList  `cmd:"" help:"List refused events: the last ones, the newest at the end."`
	Show  rejectedShow  `cmd:"" help:"Show one refused event, and what to do about it."`
	Retry rejectedRetry `cmd:"" help:"Send refused events again: each once, however often it is run."`
}

// rejectionFilter chooses refused events.
type rejectionFilter struct {
	Stream   string `help:"Of this stream alone: HOLDS or POH." placeholder:"STREAM" type:"filled"`
	Reason   string `help:"Refused for this reason alone, such as start_ahead." placeholder:"REASON" type:"filled"`
	Producer string `help:"Of this producer alone." placeholder:"NAME" type:"filled"`
	Since    string `help:"Refused then or later: Unix seconds or RFC 3339." placeholder:"TIME" type:"filled"`
	Until    string `help:"Refused before then." placeholder:"TIME" type:"filled"`
}

// filter is what the flags say, or what is wrong with them.
func (f *rejectionFilter) filter() (rejected.Filter, error) {
	filter := rejected.Filter{Stream: f.Stream, Reason: f.Reason, Producer: f.Producer}
	if f.Stream != "" && f.Stream != jetstream.Holds.Stream && f.Stream != jetstream.PoH.Stream {
		return filter, fmt.Errorf("--stream: %q is neither %s nor %s", f.Stream, jetstream.Holds.Stream, jetstream.PoH.Stream)
	}
	for _, bound := range []struct {
		flag, text string
		into       *time.Time
	}{{"since", f.Since, &filter.Since}, {"until", f.Until, &filter.Until}} {
		if bound.text == "" {
			continue
		}
		t, err := events.ParseTime(bound.text)
		if err != nil {
			return filter, fmt.Errorf("--%s: %w", bound.flag, err)
		}
		*bound.into = time.UnixMilli(int64(t))
	}
	if f.Since != "" && f.Until != "" && !filter.Since.Before(filter.Until) {
		return filter, fmt.Errorf("--until=%s: it is not after --since=%s, so nothing lies between", f.Until, f.Since)
	}
	if f.Reason == "" {
		return filter, nil
	}
	var reasons []string
	for r := range events.Reason(64) {
		if r.Valid() {
			reasons = append(reasons, r.String())
		}
		if r.Valid() && r.String() == f.Reason {
			return filter, nil
		}
	}
	return filter, fmt.Errorf("--reason: %q is none of %s", f.Reason, strings.Join(reasons, ", "))
}

// openArchive connects to NATS. The function returned closes the connection.
func openArchive(ctx context.Context, f service.NATSFlags, s *session) (*rejected.Archive, func(), error) {
	nc, err := jetstream.Connect(ctx, f.Options("holdfast-rejected", s.logFlags.Logger(s.stderr)))
	if errors.Is(err, nats.ErrNoServers) {
		err = fmt.Errorf("%w (is NATS running? --nats says where)", err)
	}
	if err != nil {
		return nil, nil, err
	}
	client, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return rejected.Open(client), nc.Close, nil
}

// rejectedList lists refused events.
type rejectedList struct {
	N     int  `name:"n" help:"How many of the last to show; 0 = all." default:"20"`
	Count bool `help:"Show how many there are by reason, instead."`
	JSON  bool `name:"json" help:"Show one JSON object a line."`
	rejectionFilter
	service.NATSFlags
}

// Validate is called when the flags are parsed.
func (l rejectedList) Validate() error {
	if l.N < 0 {
		return fmt.Errorf("--n=%d: it is 0 or more", l.N)
	}
	_, err := l.filter()
	return errors.Join(err, l.NATSFlags.Validate())
}

func (l *rejectedList) run(ctx context.Context, s *session) error {
	filter, err := l.filter()
	if err != nil {
		return err
	}
	archive, disconnect, err := openArchive(ctx, l.NATSFlags, s)
	if err != nil {
		return err
	}
	defer disconnect()
	if l.Count {
		return l.count(ctx, s, archive, filter)
	}
	if l.JSON {
		return archive.List(ctx, filter, l.N, func(v rejected.View) error { return printJSON(s.stdout, v) })
	}
	table := rejectionTable{out: s.stdout}
	if err := archive.List(ctx, filter, l.N, table.add); err != nil {
		return errors.Join(err, table.flush())
	}
	switch {
	case table.rows == 0 && l.rejectionFilter == (rejectionFilter{}):
		fmt.Fprintln(s.stderr, "No event was refused.")
	case table.rows == 0:
		fmt.Fprintln(s.stderr, "No such event was refused.")
	case table.rows == l.N:
		fmt.Fprintf(s.stderr, "The last %d; --n=0 shows all.\n", l.N)
	}
	return table.flush()
}

func (l *rejectedList) count(ctx context.Context, s *session, archive *rejected.Archive, filter rejected.Filter) error {
	counts, err := archive.Count(ctx, filter)
	if err != nil {
		return err
	}
	if l.JSON {
		for _, c := range counts {
			if err := printJSON(s.stdout, c); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	total := uint64(0)
	for _, c := range counts {
		fmt.Fprintf(w, "%s\t%s\t%d\n", c.Stream, shown(c.Reason), c.Count)
		total += c.Count
	}
	fmt.Fprintf(w, "total\t\t%d\n", total)
	return w.Flush()
}

// rejectionTable writes a table whose columns are aligned, some rows at a time, so that it can have any number of them.
type rejectionTable struct {
	out   io.Writer
	block *tabwriter.Writer // nil: no row waits
	rows  int
}

const (
	rowsAligned = 500 // so many rows have the same columns
	maxDetail   = 100 // characters of it in a row
)

func (t *rejectionTable) add(v rejected.View) error {
	if t.block == nil {
		t.block = tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t.block, "id\trefused at\treason\tproducer\tholder or node\tsent again\tdetail")
	}
	again := "no"
	if v.SentAgain != nil {
		again = "yes"
	}
	fmt.Fprintf(t.block, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", v.ID, v.RefusedAt.Format(time.RFC3339), shown(v.Reason), dash(v.Producer), dash(v.Of), again, cut(detail(v)))
	if t.rows++; t.rows%rowsAligned == 0 {
		return t.flush()
	}
	return nil
}

func (t *rejectionTable) flush() error {
	if t.block == nil {
		return nil
	}
	defer func() { t.block = nil }()
	return t.block.Flush()
}

// dash is a text in a table, where nothing would be overlooked.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return shown(s)
}

// detail is a rejection's detail without its reason, which stands by itself.
func detail(v rejected.View) string { return visible(strings.TrimPrefix(v.Detail, v.Reason+": ")) }

// cut cuts a text to a row's length.
func cut(s string) string {
	if characters := []rune(s); len(characters) > maxDetail {
		return string(characters[:maxDetail-1]) + "…"
	}
	return s
}

// printJSON prints a value on one line.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// rejectedShow shows one refused event.
type rejectedShow struct {
	ID   string `arg:"" name:"id" help:"Its id, such as HOLDS.17.0."`
	JSON bool   `name:"json" help:"Show it as one JSON object; its event can be mended and imported."`
	service.NATSFlags
}

// Validate is called when the flags are parsed.
func (c rejectedShow) Validate() error {
	_, err := rejected.ParseID(c.ID)
	return errors.Join(err, c.NATSFlags.Validate())
}

func (c *rejectedShow) run(ctx context.Context, s *session) error {
	id, err := rejected.ParseID(c.ID)
	if err != nil {
		return err
	}
	archive, disconnect, err := openArchive(ctx, c.NATSFlags, s)
	if err != nil {
		return err
	}
	defer disconnect()
	v, err := archive.Show(ctx, id)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(s.stdout, v)
	}
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "rejection\t%s\n", v.ID)
	fmt.Fprintf(w, "refused at\t%s\n", v.RefusedAt.Format(time.RFC3339Nano))
	fmt.Fprintf(w, "reason\t%s\n", shown(v.Reason))
	fmt.Fprintf(w, "detail\t%s\n", detail(v))
	fmt.Fprintf(w, "producer\t%s\n", dash(v.Producer))
	fmt.Fprintf(w, "sent again\t%s\n", sentAgain(v))
	fmt.Fprintf(w, "what to do\t%s\n", v.WhatToDo)
	if err := w.Flush(); err != nil {
		return err
	}
	return printEvent(s.stdout, v)
}

// sentAgain says whether and how a rejection was sent again.
func sentAgain(v rejected.View) string {
	switch x := v.SentAgain; {
	case x == nil:
		return "no"
	case x.Sequence == 0:
		return fmt.Sprintf("at %s it became number %d of partition %d; that is not known to be stored yet", x.At.Format(time.RFC3339), x.Number, x.Partition)
	default:
		stream, _, _ := strings.Cut(v.ID, ".")
		return fmt.Sprintf("at %s, as number %d of partition %d, in message %d of %s", x.At.Format(time.RFC3339), x.Number, x.Partition, x.Sequence, stream)
	}
}

// printEvent prints what was refused, for people.
func printEvent(w io.Writer, v rejected.View) error {
	what := "event"
	if v.Undecodable != "" {
		what = fmt.Sprintf("what was sent, as it came (no event: %s)", v.Undecodable)
	}
	var err error
	switch {
	case v.OmittedBytes > 0:
		_, err = fmt.Fprintf(w, "\nIts %d bytes were not kept: they were too many.\n", v.OmittedBytes)
	case v.Event != nil:
		var indented bytes.Buffer
		if err := json.Indent(&indented, v.Event, "", "  "); err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "\n%s:\n%s\n", what, visible(indented.String()))
	default:
		_, err = fmt.Fprintf(w, "\n%s:\n%q\n", what, v.Bytes)
	}
	return err
}

// visible is a text of several lines in which what is not to be printed is escaped.
func visible(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = escaped(l)
	}
	return strings.Join(lines, "\n")
}
