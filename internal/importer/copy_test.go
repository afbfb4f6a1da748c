package importer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/importer"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// stored is when messages of a memory are stored: one a second from here on.
var stored = time.Unix(1_000_000_000, 0).UTC()

// memory is a stream that stands in for one of a server.
type memory struct {
	t  testing.TB
	mu sync.Mutex

	created  time.Time
	shed     bool // it limits the messages of a subject
	messages []jetstream.Message
	first    uint64          // what lies before is trimmed
	deleted  map[uint64]bool // from the middle
	grown    chan struct{}   // closed when something is added, and made anew
	reading  func(uint64)    // is told what is read next; nil = nobody is
}

func newMemory(t testing.TB) *memory {
	return &memory{t: t, created: stored, first: 1, deleted: map[uint64]bool{}, grown: make(chan struct{})}
}

// add stores messages under a subject.
func (s *memory) add(subject string, bodies ...[]byte) *memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, body := range bodies {
		n := uint64(len(s.messages) + 1)
		s.messages = append(s.messages, jetstream.Message{Sequence: n, Time: stored.Add(time.Duration(n) * time.Second), Subject: subject, Data: body})
	}
	close(s.grown)
	s.grown = make(chan struct{})
	return s
}

func (s *memory) stream() *importer.Stream { return &importer.Stream{Name: "ORDERS", Source: s} }

func (s *memory) Extent(context.Context) (jetstream.Extent, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := jetstream.Extent{Created: s.created, FirstSequence: s.first, LastSequence: uint64(len(s.messages))}
	if s.shed {
		e.PerSubject = 1
	}
	return e, nil
}

func (s *memory) there(n uint64) bool {
	return n >= s.first && n <= uint64(len(s.messages)) && !s.deleted[n]
}

func (s *memory) Last(context.Context) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := uint64(len(s.messages)); n >= s.first && n > 0; n-- {
		if s.there(n) {
			return n, nil
		}
	}
	return 0, nil
}

func (s *memory) Message(_ context.Context, n uint64) (jetstream.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.there(n) {
		return jetstream.Message{}, jetstream.ErrSequenceNotFound
	}
	return s.messages[n-1], nil
}

func (s *memory) Read(_ context.Context, from uint64) (importer.Messages, error) {
	return &memoryReader{s, from}, nil
}

type memoryReader struct {
	*memory
	next uint64
}

func (r *memoryReader) Next(ctx context.Context) (jetstream.Message, error) {
	for {
		r.mu.Lock()
		reading, grown := r.reading, r.grown
		r.mu.Unlock()
		if reading != nil {
			reading(r.next)
		}
		r.mu.Lock()
		for ; r.next <= uint64(len(r.messages)); r.next++ {
			if r.there(r.next) {
				m := r.messages[r.next-1]
				r.next++
				r.mu.Unlock()
				return m, nil
			}
		}
		r.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
			return jetstream.Message{}, ctx.Err()
		}
	}
}

func (r *memoryReader) Stop() {}

// copy copies with a process that something may happen to. The refused messages go to dir.
func (p *process) copy(ctx context.Context, s *importer.Stream, dir string, o importer.Options) (importer.Result, error) {
	p.t.Helper()
	o.StreamDir = dir
	if o.BlockMessages == 0 {
		o.BlockMessages = 3
	}
	if o.BlockBytes == 0 {
		o.BlockBytes = importer.DefaultBlockBytes
	}
	return p.importer(o).Copy(ctx, s)
}

// mustCopy copies what may not fail.
func (w *world) mustCopy(s *importer.Stream, dir string) importer.Result {
	w.t.Helper()
	result, err := (&process{world: w}).copy(context.Background(), s, dir, importer.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	return result
}

func holdOf(token, holder string) events.HoldEvent {
	return events.HoldEvent{Kind: events.KindHold, Token: token, Holder: holder, Start: 1000, End: 2000, Weight: events.Weight{Lo: 1e9}}
}

// batch returns an envelope of holds of a holder, of these tokens.
func batch(producer string, epoch, first uint64, holder string, tokens ...string) []byte {
	origin := events.Origin{Producer: producer, Epoch: epoch, First: first}
	if producer == "" {
		origin = events.Origin{}
	}
	var list []events.HoldEvent
	for _, token := range tokens {
		list = append(list, holdOf(token, holder))
	}
	return events.AppendHolds(nil, origin, list)
}

func jsonHold(token, holder string) []byte {
	return fmt.Appendf(nil, `{"token_id":%q,"holder_id":%q,"start":1,"end":2,"weight":1}`, token, holder)
}

// lines returns the lines of a file of refused messages, each as "sequence.index reason field".
func lines(t testing.TB, path string) (all []string) {
	t.Helper()
	for line := range strings.Lines(read(t, path)) {
		var b struct {
			Stream, Subject, Reason, Field, Detail string
			Sequence                               uint64
			Index                                  int
			Body                                   []byte
		}
		if err := json.Unmarshal([]byte(line), &b); err != nil || b.Stream != "ORDERS" || b.Subject == "" || b.Detail == "" {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, fmt.Sprintf("%d.%d %s %s %d", b.Sequence, b.Index, b.Reason, b.Field, len(b.Body)))
	}
	return all
}

func TestCopy(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	own := events.PlaceOf("h1").Partition
	s := newMemory(t).
		add("any", jsonHold("a", "h1"), []byte(`{"kind":"peers","node":"n1","count":3}`), []byte("nonsense"), nil).
		add(jetstream.Holds.PartitionSubject(own), batch("", 0, 0, "h1", "b", "c")).
		add(jetstream.Holds.PartitionSubject((own+1)%16), batch("", 0, 0, "h1", "misrouted")).
		add("poh.n1", events.AppendPoH(nil, events.Origin{}, []events.PoHEvent{{Kind: events.KindGC, Node: "n1", GC: events.MajorGC}, {Kind: events.KindGC, Node: "n1"}})).
		add("any", []byte(`{"token_id":"d","holder_id":"h","start":1000000308,"weight":1}`), // stored at …8: 5 minutes ahead
			[]byte(`{"token_id":"e","holder_id":"h","start":1000000309.001,"weight":1}`),
			[]byte(`{"kind":"poh.lost","node":"n"}`))
	var reports []string
	o := importer.Options{Report: func(r importer.Refused) { reports = append(reports, r.Error()) }}
	result, err := (&process{world: w}).copy(t.Context(), s.stream(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	bytes := int64(0)
	for _, m := range s.messages {
		bytes += int64(len(m.Data))
	}
	refused := filepath.Join(dir, "ORDERS.refused")
	diff(t, "result", importer.Result{File: "ORDERS", Name: "ORDERS", Format: importer.NATS, Totals: importer.Totals{Events: 6, Refused: 6}, Bytes: bytes, RefusedFile: refused}, result)
	diff(t, "tokens", map[string]int{"a": 1, "b": 1, "c": 1, "d": 1}, w.tokens())
	diff(t, "PoH", 2, len(w.poh))
	want := []string{
		"3.0 malformed  8", "4.0 malformed  0", fmt.Sprintf("6.0 misrouted  %d", len(batch("", 0, 0, "h1", "misrouted"))),
		"7.1 invalid_value type 13", "9.0 start_ahead start 28", "10.0 unknown_kind kind 30",
	}
	diff(t, "refused", want, lines(t, refused))
	if len(reports) != len(want) || !strings.HasPrefix(reports[4], "ORDERS:9: start: ") {
		t.Errorf("reports: %q", reports)
	}
	diff(t, "a second time", importer.Totals{}, w.mustCopy(s.stream(), dir).Totals)
	s.add("any", jsonHold("f", "h1"))
	diff(t, "grown", importer.Totals{Events: 1}, w.mustCopy(s.stream(), dir).Totals)
	diff(t, "published", 7, w.sent)
}

// TestCopyNumbered: what the source has twice under a number is copied once, as it counts there, over restarts too; and what the
// source's fold refuses for its number is refused.
func TestCopyNumbered(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	s := newMemory(t)
	for _, step := range []struct {
		body []byte
		want importer.Totals
	}{
		{batch("till", 1, 1, "h", "a", "b"), importer.Totals{Events: 2}},
		{batch("till", 1, 1, "h", "a", "b"), importer.Totals{Skipped: 2}},
		{batch("till", 1, 2, "h", "b", "c"), importer.Totals{Events: 1, Skipped: 1}},
		{batch("till", 1, 5, "h", "e"), importer.Totals{Events: 1}},
		{batch("till", 1, 3, "h", "c", "d", "e"), importer.Totals{Events: 1, Skipped: 2}},
		{batch("other", 0, 1, "h", "f"), importer.Totals{Events: 1}},
		{batch("till", 2, 1, "h", "g"), importer.Totals{Events: 1}},
		{batch("till", 1, 6, "h", "x"), importer.Totals{Refused: 1}},
		{batch("", 0, 0, "h", "g"), importer.Totals{Events: 1}}, // nobody numbers it
	} {
		s.add("any", step.body)
		diff(t, fmt.Sprintf("message %d", len(s.messages)), step.want, w.mustCopy(s.stream(), dir).Totals)
	}
	tokens := map[string]int{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1, "g": 2}
	diff(t, "tokens", tokens, w.tokens())
	diff(t, "refused", []string{fmt.Sprintf("8.0 stale_epoch epoch %d", len(batch("", 0, 0, "h", "x")))}, lines(t, filepath.Join(dir, "ORDERS.refused")))

	whole := newWorld(t)
	whole.mustCopy(s.stream(), t.TempDir())
	diff(t, "all at once", tokens, whole.tokens())
}

// TestCopyOrder: what one partition has is in the order of the stream, which is the order of meaning.
func TestCopyOrder(t *testing.T) {
	w := newWorld(t)
	s := newMemory(t)
	var want []string
	for i := range 3000 {
		want = append(want, fmt.Sprintf("%d:%d", i, i%7))
		s.add("any", fmt.Appendf(nil, `{"kind":"balance","token_id":"gold","holder_id":"h","at":%d,"weight":%d}`, i, i%7))
	}
	w.mustCopy(s.stream(), t.TempDir())
	diff(t, "balances", want, w.balances()["h/gold"])
}

// TestCopyFaultAtEachStep lets each durable step of a copy go wrong in each way, once, and then copies again.
func TestCopyFaultAtEachStep(t *testing.T) {
	s := newMemory(t)
	for i := range 8 {
		holder := fmt.Sprintf("h%d", i%3)
		s.add("any", jsonHold(fmt.Sprintf("t%d", i), holder), fmt.Appendf(nil, "broken %d", i), batch("till", 1, uint64(i%5+1), "h", fmt.Sprintf("n%d", i%5)),
			fmt.Appendf(nil, `{"kind":"peers","node":"n%d","count":3}`, i))
	}
	ideal, dir := newWorld(t), t.TempDir()
	diff(t, "without faults", importer.Totals{Events: 21, Refused: 8, Skipped: 3}, ideal.mustCopy(s.stream(), dir).Totals)
	want := ideal.outcome(filepath.Join(dir, "ORDERS"))
	for kind := range faults {
		for at := 1; ; at++ {
			w, dir := newWorld(t), t.TempDir()
			p := &process{world: w, at: at, fault: kind}
			_, err := p.copy(t.Context(), s.stream(), dir, importer.Options{})
			if p.steps < at {
				break // there is no such step
			}
			if killed := kind == dieBefore || kind == dieAfter; killed != errors.Is(err, errDead) {
				t.Fatalf("step %d, fault %d: error %v", at, kind, err)
			}
			w.mustCopy(s.stream(), dir)
			diff(t, fmt.Sprintf("step %d, fault %d", at, kind), want, w.outcome(filepath.Join(dir, "ORDERS")))
		}
	}
}

// TestCopyLaw: however a stream's beginnings are copied, and whatever goes wrong on the way, the logs and the refused messages come
// to what they would have come to otherwise.
func TestCopyLaw(t *testing.T) {
	body := rapid.OneOf(
		rapid.Custom(func(rt *rapid.T) []byte {
			return jsonHold("t", fmt.Sprintf("h%d", rapid.IntRange(0, 20).Draw(rt, "holder")))
		}),
		rapid.Custom(func(rt *rapid.T) []byte {
			first, n := rapid.IntRange(1, 9).Draw(rt, "first"), rapid.IntRange(1, 3).Draw(rt, "n")
			var tokens []string
			for i := range n {
				tokens = append(tokens, fmt.Sprintf("n%d", first+i))
			}
			return batch(rapid.SampledFrom([]string{"till", "other"}).Draw(rt, "producer"), uint64(rapid.IntRange(0, 1).Draw(rt, "epoch")), uint64(first), "h", tokens...)
		}),
		rapid.SampledFrom([][]byte{nil, []byte("x"), []byte(`{"kind":"peers","node":"n","count":1}`)}),
	)
	rapid.Check(t, func(rt *rapid.T) {
		ideal, w := newWorld(t), newWorld(t)
		dirs := [2]string{t.TempDir(), t.TempDir()}
		s := newMemory(t)
		for range rapid.IntRange(1, 4).Draw(rt, "growths") {
			for _, body := range rapid.SliceOfN(body, 1, 12).Draw(rt, "bodies") {
				s.add("any", body)
				if rapid.IntRange(0, 9).Draw(rt, "deleted") == 0 {
					s.deleted[uint64(len(s.messages))] = true
				}
			}
			ideal.mustCopy(s.stream(), dirs[0])
			for range rapid.IntRange(0, 3).Draw(rt, "interruptions") {
				p := &process{world: w, at: rapid.IntRange(1, 40).Draw(rt, "at"), fault: fault(rapid.IntRange(0, int(faults)-1).Draw(rt, "fault"))}
				o := importer.Options{BlockMessages: rapid.IntRange(1, 7).Draw(rt, "block")}
				if _, err := p.copy(t.Context(), s.stream(), dirs[1], o); err != nil && !errors.Is(err, errDead) {
					t.Fatal(err)
				}
			}
			w.mustCopy(s.stream(), dirs[1])
			diff(t, "outcome", ideal.outcome(filepath.Join(dirs[0], "ORDERS")), w.outcome(filepath.Join(dirs[1], "ORDERS")))
		}
		if t.Failed() {
			rt.FailNow()
		}
	})
}

// TestCopyRefuses has the ways in which a stream is not what it was, or not what was asked for.
func TestCopyRefuses(t *testing.T) {
	fill := func(t *testing.T) *memory {
		s := newMemory(t)
		for i := range 10 {
			s.add("any", jsonHold(fmt.Sprintf("t%d", i), "h"))
		}
		return s
	}
	for what, c := range map[string]struct {
		change func(s *memory, stream *importer.Stream)
		want   error
		text   string
	}{
		"made anew": {func(s *memory, _ *importer.Stream) { s.created = stored.Add(time.Hour) }, importer.ErrChanged, "it was deleted and made again, or is on another server; copy it under another name"},
		"trimmed": {func(s *memory, _ *importer.Stream) {
			s.add("any", jsonHold("x", "h"), jsonHold("y", "h"))
			s.first = 12
		}, jetstream.ErrTrimmed, "the stream begins at sequence 12, and 11 was to be copied next: what lies between is lost, if it had any; to go on without it, copy it from 12 on under another name (--name and --from-seq 12)"},
		"put back": {func(s *memory, _ *importer.Stream) { s.messages = s.messages[:5] }, importer.ErrChanged, "the stream ends at sequence 5, and was copied up to 10"},
		"went on else": {func(s *memory, _ *importer.Stream) {
			s.messages = s.messages[:9]
			s.add("any", jsonHold("z", "h"), jsonHold("y", "h"))
		}, importer.ErrChanged, "its message 10 is not the one that was copied"},
		"another name": {func(_ *memory, stream *importer.Stream) { stream.Name = "OTHER" }, importer.ErrChanged, "copies all of stream ORDERS"},
		"a subject":    {func(_ *memory, stream *importer.Stream) { stream.Subject = "x" }, importer.ErrChanged, "copies all of stream ORDERS"},
		"a sequence":   {func(_ *memory, stream *importer.Stream) { stream.From = 4 }, importer.ErrChanged, "was begun at another sequence than 4 and goes on at 11"},
	} {
		t.Run(what, func(t *testing.T) {
			w, dir, s := newWorld(t), t.TempDir(), fill(t)
			o := importer.Options{Name: "n"}
			if _, err := (&process{world: w}).copy(t.Context(), s.stream(), dir, o); err != nil {
				t.Fatal(err)
			}
			stream := s.stream()
			c.change(s, stream)
			_, err := (&process{world: w}).copy(t.Context(), stream, dir, o)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v, want %q", err, c.text)
			}
			diff(t, "published", 10, w.sent)
		})
	}
	w := newWorld(t)
	w.must(file(t, "ORDERS", header+"a,h,1,2,3\n"))
	if _, err := (&process{world: w}).copy(t.Context(), fill(t).stream(), t.TempDir(), importer.Options{}); !errors.Is(err, importer.ErrFormat) || !strings.Contains(err.Error(), "was begun as csv") {
		t.Errorf("under the name of a file: %v", err)
	}
	w = newWorld(t)
	w.mustCopy(fill(t).stream(), t.TempDir())
	if _, err := w.run(file(t, "ORDERS", header+"a,h,1,2,3\n")); !errors.Is(err, importer.ErrFormat) || !strings.Contains(err.Error(), "was begun as nats") {
		t.Errorf("a file under the name of a stream: %v", err)
	}
	s := fill(t)
	s.first = 5
	for from, want := range map[uint64]string{3: "it begins at sequence 5, and was to be copied from 3 on", 12: "it ends at sequence 10, and was to be copied from 12 on"} {
		stream := s.stream()
		stream.From = from
		if _, err := (&process{world: newWorld(t)}).copy(t.Context(), stream, t.TempDir(), importer.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("from %d: %v", from, err)
		}
	}
	stream := s.stream()
	stream.From = 8
	w = newWorld(t)
	diff(t, "from 8", importer.Totals{Events: 3}, w.mustCopy(stream, t.TempDir()).Totals)
}

// TestCopyInterruptedAndDeleted deletes a message of a block that was announced: its events may be in the log under their numbers.
func TestCopyInterruptedAndDeleted(t *testing.T) {
	for deleted := uint64(1); deleted <= 3; deleted++ {
		w, dir, s := newWorld(t), t.TempDir(), newMemory(t).add("any", jsonHold("a", "h"), jsonHold("b", "h"), jsonHold("c", "h"))
		p := &process{world: w, at: 3}
		if _, err := p.copy(t.Context(), s.stream(), dir, importer.Options{}); !errors.Is(err, errDead) {
			t.Fatalf("error %v", err)
		}
		s.deleted[deleted] = true
		if _, err := (&process{world: w}).copy(t.Context(), s.stream(), dir, importer.Options{}); !errors.Is(err, importer.ErrChanged) || !strings.Contains(err.Error(), "from 1 to 3 are not those") {
			t.Errorf("%d deleted: %v", deleted, err)
		}
	}
}

// TestCopyTrimmedMeanwhile trims the stream while it is read: the reader sees no more of it than a hole.
func TestCopyTrimmedMeanwhile(t *testing.T) {
	for _, shed := range []bool{false, true} {
		s := newMemory(t)
		for i := range 10 {
			s.add("any", jsonHold(fmt.Sprintf("t%d", i), "h"))
		}
		s.shed = shed
		s.reading = func(next uint64) {
			if next == 5 {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.first = 8
			}
		}
		w := newWorld(t)
		_, err := (&process{world: w}).copy(t.Context(), s.stream(), t.TempDir(), importer.Options{})
		switch {
		case shed && (err != nil || w.sent != 7):
			t.Errorf("a stream that loses messages by design: %d, %v", w.sent, err)
		case !shed && (!errors.Is(err, jetstream.ErrTrimmed) || !strings.Contains(err.Error(), "the stream begins at sequence 8, and 5 was to be copied next")):
			t.Errorf("%d copied, error %v, want ErrTrimmed", w.sent, err)
		}
	}
}

// TestCopyLastDeleted deletes the last message while it is waited for.
func TestCopyLastDeleted(t *testing.T) {
	s := newMemory(t).add("any", jsonHold("a", "h"), jsonHold("b", "h"))
	s.reading = func(next uint64) {
		if next == 2 {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.deleted[2] = true
		}
	}
	diff(t, "totals", importer.Totals{Events: 1}, newWorld(t).mustCopy(s.stream(), t.TempDir()).Totals)
}

// TestCopyFollow goes on with what is added, until it is told to end, which is no error.
func TestCopyFollow(t *testing.T) {
	w, dir, s := newWorld(t), t.TempDir(), newMemory(t).add("any", jsonHold("a", "h"))
	ctx, end := context.WithCancel(t.Context())
	told := make(chan importer.Progress, 100)
	done := make(chan importer.Result, 1)
	go func() {
		result, err := (&process{world: w}).copy(ctx, s.stream(), dir, importer.Options{Follow: true, Progress: func(p importer.Progress) { told <- p }})
		if err != nil {
			t.Error(err)
		}
		done <- result
	}()
	await := func(events int64) {
		t.Helper()
		for {
			select {
			case p := <-told:
				if p.Events == events {
					return
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("no progress to %d events", events)
			}
		}
	}
	await(1)
	s.add("any", jsonHold("b", "h"), jsonHold("c", "h"))
	await(3)
	end()
	select {
	case result := <-done:
		diff(t, "totals", importer.Totals{Events: 3}, result.Totals)
	case <-time.After(20 * time.Second):
		t.Fatal("it does not end")
	}
	if strings.Contains(w.record("ORDERS"), "pending") {
		t.Errorf("the record has a block that is not done: %s", w.record("ORDERS"))
	}
}

// broken is a publisher that ends by itself when it has something to publish.
type broken struct {
	*publisher
	ended chan struct{}
}

var errBroken = errors.New("broken")

func (b *broken) Run(ctx context.Context) error {
	select {
	case <-b.ended:
		return errBroken
	case <-ctx.Done():
		return nil
	}
}

func (b *broken) SendHolds(ctx context.Context, _ []events.HoldEvent) (importer.Receipt, error) {
	close(b.ended)
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// When the publisher ends by itself, nothing of a stream is read any more, though the caller's context goes on.
func TestCopyEndsWithItsPublisher(t *testing.T) {
	others := goleak.IgnoreCurrent()
	p := &process{world: newWorld(t)}
	m, err := importer.New(importer.Options{Records: p, StreamDir: t.TempDir(), Follow: true, Publish: func(producer string, next importer.Numbers) (importer.Publisher, error) {
		return &broken{&publisher{process: p, producer: producer, next: next}, make(chan struct{})}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	defer end()
	if _, err := m.Copy(ctx, newMemory(t).add("any", jsonHold("a", "h")).stream()); !errors.Is(err, errBroken) {
		t.Errorf("Copy: %v, want the publisher's error", err)
	}
	if err := goleak.Find(others); err != nil {
		t.Error(err)
	}
}

// unreadable is a stream that cannot be read, and says so as a server's does.
type unreadable struct{ *memory }

func (unreadable) Read(context.Context, uint64) (importer.Messages, error) {
	return (*memoryReader)(nil), jetstream.ErrNoStream
}

func TestCopyCannotRead(t *testing.T) {
	s := newMemory(t).add("any", jsonHold("a", "h")).stream()
	s.Source = unreadable{s.Source.(*memory)}
	if _, err := (&process{world: newWorld(t)}).copy(t.Context(), s, t.TempDir(), importer.Options{}); !errors.Is(err, jetstream.ErrNoStream) {
		t.Errorf("Copy: %v, want ErrNoStream", err)
	}
}

// record returns the record of an import.
func (w *world) record(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.records[events.EncodeID("import."+name)].Value)
}

// TestCopyBrokenSum: a sum whose latencies are none is refused here, as in a file, rather than by the fold.
func TestCopyBrokenSum(t *testing.T) {
	w, dir := newWorld(t), t.TempDir()
	sum := events.PoHEvent{Kind: events.KindSum, Of: events.KindVerified, Node: "n1", Result: events.Success, Count: 3, Latencies: "none"}
	s := newMemory(t).add("any", events.AppendPoH(nil, events.Origin{}, []events.PoHEvent{sum}))
	diff(t, "totals", importer.Totals{Refused: 1}, w.mustCopy(s.stream(), dir).Totals)
	diff(t, "published", 0, w.sent)
}
