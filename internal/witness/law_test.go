package witness

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// memory is a log in memory: HOLDS, and no message in POH.
type memory struct {
	created  time.Time
	messages []jetstream.Message
	read     int // messages that were read of it
}

func (s *memory) State(_ context.Context, log jetstream.Log) (jetstream.State, error) {
	if log != jetstream.Holds {
		return jetstream.State{Created: s.created}, nil
	}
	return jetstream.State{Created: s.created, FirstSequence: 1, LastSequence: uint64(len(s.messages))}, nil
}

func (s *memory) Read(_ context.Context, _ jetstream.Log, from, through uint64) (Reader, error) {
	return &memoryReader{s, from - 1, through}, nil
}

type memoryReader struct {
	s             *memory
	next, through uint64
}

func (r *memoryReader) Next(context.Context) (jetstream.Message, error) {
	if r.next >= r.through {
		return jetstream.Message{}, io.EOF
	}
	r.next++
	r.s.read++
	return r.s.messages[r.next-1], nil
}

func (r *memoryReader) Stop() {}

func (s *memory) add(partition int, data []byte) {
	n := len(s.messages) + 1
	s.messages = append(s.messages, jetstream.Message{
		Sequence: uint64(n), Time: s.created.Add(time.Duration(n*7%10) * time.Second), Subject: jetstream.Holds.PartitionSubject(partition), Data: data,
	})
}

// statement returns what there is to be said about a partition.
func (s *memory) statement(partition int) *attest.Statement {
	st := &attest.Statement{Stream: "HOLDS", Created: s.created.UnixNano(), Partition: partition, Sequence: uint64(len(s.messages))}
	var tree merkle.Log
	for i := range s.messages {
		if m := &s.messages[i]; m.Subject == jetstream.Holds.PartitionSubject(partition) {
			tree.Append(merkle.Message(m.Sequence, m.Time.UnixNano(), m.Data))
			st.Clock = max(st.Clock, events.TimeOf(m.Time))
		}
	}
	st.Size, st.Root = tree.Size(), tree.Root()
	return st
}

// begin returns a witness of a log in memory that has taken up its folder. The function returned ends it.
func begin(t rapid.TB, s Source, signer *attest.Signer, cosigner *attest.Cosigner, dir string) (*Witness, func()) {
	t.Helper()
	key, err := attest.ParseKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	w, err := New(Options{Client: new(jetstream.Client), Source: s, Key: key, Cosigner: cosigner, Dir: dir, Patience: time.Nanosecond, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if w.store, err = openStore(dir, key, w.key); err != nil {
		t.Fatal(err)
	}
	if err := w.load(); err != nil {
		t.Fatal(err)
	}
	return w, func() {
		if err := w.store.close(); err != nil {
			t.Fatal(err)
		}
	}
}

// In whatever order messages come, are signed, and are judged, in batches of any size, with restarts anywhere, everything that is right is cosigned;
// and once a message is otherwise than it was, nothing that covers it.
func TestLaw(t *testing.T) {
	secret, _, err := attest.GenerateWitnessKey("witness.example.org")
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := attest.NewCosigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	signer, _ := newSigner(t)
	root := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(root, "witness")
		if err != nil {
			t.Fatal(err)
		}
		s := &memory{created: time.Unix(1767225600, 0)}
		w, end := begin(t, s, signer, cosigner, dir)
		defer func() { end() }()
		var waiting []published // published, and not judged yet
		sizes := map[int]uint64{}
		number, cosigned, wrong := uint64(0), 0, map[int]bool{}
		newest := map[int]*attest.Statement{}
		judge := func(n int) {
			list := waiting[:n]
			waiting = waiting[n:]
			for i := range list {
				list[i].log = w.logs[0]
			}
			if n == 0 {
				return
			}
			if err := w.judge(t.Context(), list, list[n-1].Sequence); err != nil {
				t.Fatal(err)
			}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			default:
				s.add(rapid.IntRange(0, 2).Draw(t, "partition"), []byte(fmt.Sprint("message ", len(s.messages))))
			case 5, 6:
				st := s.statement(rapid.IntRange(0, 2).Draw(t, "partition"))
				if st.Size <= sizes[st.Partition] {
					continue
				}
				sizes[st.Partition] = st.Size
				note, err := signer.Sign(st)
				if err != nil {
					t.Fatal(err)
				}
				number++
				waiting = append(waiting, published{Message: jetstream.Message{Sequence: number, Data: note}, partition: st.Partition})
				if !wrong[st.Partition] {
					cosigned++
					newest[st.Partition] = st
				}
			case 7, 8:
				judge(rapid.IntRange(0, len(waiting)).Draw(t, "judged"))
			case 9:
				end()
				w, end = begin(t, s, signer, cosigner, dir)
			}
			if len(s.messages) > 0 && rapid.IntRange(0, 30).Draw(t, "rewrite") == 0 {
				judge(len(waiting))
				m := &s.messages[rapid.IntRange(0, len(s.messages)-1).Draw(t, "rewritten")]
				for p := range 3 {
					if m.Subject == jetstream.Holds.PartitionSubject(p) && newest[p] != nil && m.Sequence <= newest[p].Sequence {
						wrong[p] = true
						m.Data = append([]byte("re"), m.Data...)
					}
				}
			}
		}
		judge(len(waiting))
		end()
		w, end = begin(t, s, signer, cosigner, dir)
		for p := range 3 {
			st, err := w.store.readOwn(w.logs[0].parts[p])
			switch {
			case newest[p] == nil && os.IsNotExist(err):
			case err != nil:
				t.Fatalf("partition %d: %v", p, err)
			case newest[p] == nil || st.Size != newest[p].Size || st.Root != newest[p].Root:
				t.Errorf("partition %d: %+v is kept, want %+v", p, st, newest[p])
			}
			refused := w.logs[0].parts[p].refused != nil
			if refused != (wrong[p] && newest[p].Size < sizes[p]) {
				t.Errorf("partition %d: refused %v, rewritten %v", p, refused, wrong[p])
			}
			list, err := w.store.recorded(w.logs[0].parts[p])
			if err != nil {
				t.Fatal(err)
			}
			cosigned -= len(list)
		}
		if cosigned != 0 {
			t.Errorf("%d that are right were not cosigned", cosigned)
		}
		if err := os.RemoveAll(filepath.Clean(dir)); err != nil {
			t.Fatal(err)
		}
	})
}

// A checkpoint that was cosigned and comes again, the newest or an older one, is passed over, also if it was cosigned after the record was looked at.
func TestComesAgain(t *testing.T) {
	secret, _, err := attest.GenerateWitnessKey("witness.example.org")
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := attest.NewCosigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	signer, _ := newSigner(t)
	s := &memory{created: time.Unix(1767225600, 0)}
	w, end := begin(t, s, signer, cosigner, t.TempDir())
	defer end()
	number := uint64(0)
	judge := func(notes ...[]byte) {
		t.Helper()
		var list []published
		for _, note := range notes {
			number++
			list = append(list, published{jetstream.Message{Sequence: number, Data: note}, w.logs[0], 1})
		}
		if err := w.judge(t.Context(), list, number); err != nil {
			t.Fatal(err)
		}
	}
	var notes [][]byte
	next := func() []byte {
		t.Helper()
		s.add(1, nil)
		note, err := signer.Sign(s.statement(1))
		if err != nil {
			t.Fatal(err)
		}
		notes = append(notes, note)
		return note
	}
	for range 3 {
		judge(next())
	}
	judge(notes[0])
	for range 3 {
		judge(next())
	}
	judge(notes[4])
	judge(notes[5])
	judge(next(), next(), notes[6], notes[7], notes[1])
	judge(notes...)
	if w.summary.Cosigned != len(notes) || len(w.summary.Refused) > 0 {
		t.Errorf("%d cosigned of %d, refused: %+v", w.summary.Cosigned, len(notes), w.summary.Refused)
	}
}

// What is remembered of a partition without checkpoints is bounded; when one comes, its messages are read again.
func TestManyWithoutCheckpoints(t *testing.T) {
	secret, _, err := attest.GenerateWitnessKey("witness.example.org")
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := attest.NewCosigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	signer, _ := newSigner(t)
	s := &memory{created: time.Unix(1767225600, 0)}
	w, end := begin(t, s, signer, cosigner, t.TempDir())
	defer end()
	number := uint64(0)
	state := func(partition int) {
		t.Helper()
		note, err := signer.Sign(s.statement(partition))
		if err != nil {
			t.Fatal(err)
		}
		number++
		if err := w.judge(t.Context(), []published{{jetstream.Message{Sequence: number, Data: note}, w.logs[0], partition}}, number); err != nil {
			t.Fatal(err)
		}
		if w.summary.Cosigned != int(number) {
			t.Fatalf("%+v", w.summary)
		}
	}
	s.add(1, nil)
	state(1)
	for range mostAhead + 10 {
		s.add(1, nil)
	}
	s.add(2, nil)
	state(2)
	p := w.logs[0].parts[1]
	if len(p.ahead) > mostAhead || p.through != 1 {
		t.Errorf("%d are remembered, through %d", len(p.ahead), p.through)
	}
	s.read = 0
	state(1)
	if s.read != mostAhead+11 {
		t.Errorf("%d messages were read, want those behind the last cosigned one", s.read)
	}
	s.add(1, nil)
	s.add(2, nil)
	state(2)
	s.read = 0
	state(1)
	if s.read != 0 {
		t.Errorf("%d messages were read again", s.read)
	}
}

// BenchmarkWitness judges a million events in envelopes of a thousand, and a checkpoint of each partition.
func BenchmarkWitness(b *testing.B) {
	secret, _, err := attest.GenerateWitnessKey("witness.example.org")
	if err != nil {
		b.Fatal(err)
	}
	cosigner, err := attest.NewCosigner(secret)
	if err != nil {
		b.Fatal(err)
	}
	signer, _ := newSigner(b)
	s := &memory{created: time.Unix(1767225600, 0)}
	const envelopes, each = 1000, 1000
	var list []events.HoldEvent
	for i := range each {
		list = append(list, events.HoldEvent{Kind: events.KindHold, Token: "gold", Holder: fmt.Sprint("holder-", i), Start: events.Time(1767225600000 + i), End: events.Open, Weight: events.Weight{}})
	}
	data := events.AppendHolds(nil, events.Origin{Producer: "p", Epoch: 1, First: 1}, list)
	for i := range envelopes {
		s.add(i%events.Partitions, data)
	}
	var notes []published
	for p := range events.Partitions {
		note, err := signer.Sign(s.statement(p))
		if err != nil {
			b.Fatal(err)
		}
		notes = append(notes, published{Message: jetstream.Message{Sequence: uint64(p + 1), Data: note}, partition: p})
	}
	b.SetBytes(int64(envelopes * len(data)))
	for b.Loop() {
		w, end := begin(b, s, signer, cosigner, b.TempDir())
		for i := range notes {
			notes[i].log = w.logs[0]
		}
		if err := w.judge(b.Context(), notes, events.Partitions); err != nil {
			b.Fatal(err)
		}
		if w.summary.Cosigned != len(notes) {
			b.Fatalf("%+v", w.summary)
		}
		end()
	}
	b.ReportMetric(float64(b.N*envelopes*each)/b.Elapsed().Seconds(), "events/s")
}
