package client

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/pkg/events"
)

var quiet = slog.New(slog.DiscardHandler)

func testEntry(i, size int) entry {
	return entry{log: spoolHolds, partition: i % 16, epoch: 7, events: i + 1, envelope: bytes.Repeat([]byte{byte(i)}, size)}
}

func openTestSpool(t *testing.T, path string, limit int64, fault func(string) Fault) (*spool, []*record, *Disk) {
	t.Helper()
	d, err := OpenDisk(path, fault)
	if err != nil {
		t.Fatal(err)
	}
	s, inherited, err := openSpool(d, limit, 1<<10, quiet)
	if err != nil {
		t.Fatal(errors.Join(err, d.close()))
	}
	t.Cleanup(func() { closeTestSpool(s, d) })
	return s, inherited, d
}

func closeTestSpool(s *spool, d *Disk) {
	s.close()
	d.close()
}

// eventsOf returns the numbers of events of records, which tell the test's entries apart.
func eventsOf(records []*record) (list []int) {
	for _, r := range records {
		list = append(list, r.events)
	}
	slices.Sort(list)
	return list
}

func TestSpoolKeepsWhatItTook(t *testing.T) {
	path := t.TempDir()
	s, inherited, d := openTestSpool(t, path, 1<<20, nil)
	if len(inherited) != 0 {
		t.Fatalf("%d records in an empty folder", len(inherited))
	}
	var mu sync.Mutex
	var records []*record
	var all sync.WaitGroup
	for i := range 100 { // some are written together
		all.Go(func() {
			r, err := s.append(testEntry(i, 600))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			records = append(records, r)
		})
	}
	all.Wait()
	for _, r := range records {
		e, err := r.read()
		if diff := cmp.Diff(testEntry(r.events-1, 600), e, cmp.AllowUnexported(entry{})); err != nil || diff != "" {
			t.Fatalf("a record: %v (-want +got):\n%s", err, diff)
		}
	}
	want := eventsOf(records)
	closeTestSpool(s, d)

	s, inherited, d = openTestSpool(t, path, 1<<20, nil)
	if diff := cmp.Diff(want, eventsOf(inherited)); diff != "" {
		t.Fatalf("inherited (-want +got):\n%s", diff)
	}
	fresh, err := s.append(testEntry(500, 10))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range inherited {
		s.done(r)
	}
	select {
	case <-s.drained:
	default:
		t.Error("not drained though nothing is left of what was inherited")
	}
	if err := s.purge(); err != nil {
		t.Fatal(err)
	}
	closeTestSpool(s, d)
	s, inherited, _ = openTestSpool(t, path, 1<<20, nil)
	if diff := cmp.Diff([]int{fresh.events}, eventsOf(inherited)); diff != "" {
		t.Fatalf("inherited (-want +got):\n%s", diff)
	}
	s.done(inherited[0])
	if events, size := s.kept(); events != 0 || size != 0 || !s.empty() {
		t.Errorf("%d events, %d bytes and %d segments are left", events, size, len(s.files))
	}
}

func TestSpoolIsBounded(t *testing.T) {
	const limit = 64 << 10
	s, _, _ := openTestSpool(t, t.TempDir(), limit, nil)
	var records []*record
	for i := 0; ; i++ {
		r, err := s.append(testEntry(i, 1000))
		if errors.Is(err, errSpoolFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, r)
	}
	if _, size := s.kept(); size > limit || size < limit*9/10 {
		t.Errorf("full at %d of %d bytes", size, limit)
	}
	if len(s.files) < 10 {
		t.Errorf("%d segments", len(s.files))
	}
	for _, r := range records[:len(records)/2] {
		s.done(r)
	}
	if _, err := s.append(testEntry(1, 1000)); err != nil {
		t.Errorf("after half of it was sent: %v", err)
	}
}

// Whichever write fails, in whichever way: what was promised is there at the next opening, and nothing is there twice or damaged.
func TestSpoolSurvivesEveryFault(t *testing.T) {
	// trial works with a spool whose n-th write has a fault, and tells whether there were so many.
	trial := func(t *testing.T, n int, fault Fault) (reached bool) {
		path := t.TempDir()
		writes := 0
		promised := map[int]bool{}
		var acknowledged []int
		s, _, d := openTestSpool(t, path, 1<<20, func(string) Fault {
			if writes++; writes == n {
				reached = true
				return fault
			}
			return Works
		})
		for i := range 12 {
			r, err := s.append(testEntry(i, 1500)) // two a segment
			if err != nil {
				continue
			}
			promised[r.events] = true
			if i%3 != 0 {
				s.done(r)
				delete(promised, r.events)
				acknowledged = append(acknowledged, r.events)
			}
		}
		if fault == Fails || fault == FailsLate {
			_, err := s.append(testEntry(50, 10))
			if err != nil { // the fault was in this one
				_, err = s.append(testEntry(50, 10))
			}
			if err != nil {
				t.Errorf("after the fault: %v", err)
			}
			promised[51] = true
		}
		closeTestSpool(s, d)

		s, inherited, d := openTestSpool(t, path, 1<<20, nil)
		got := map[int]int{}
		for _, r := range inherited {
			if _, err := r.read(); err != nil {
				t.Error(err)
			}
			got[r.events]++
		}
		for e := range promised {
			if got[e] != 1 {
				t.Errorf("what was promised, %d, is there %d times; all: %v", e, got[e], got)
			}
		}
		for e, times := range got {
			// What was acknowledged may be there, to be sent again; what failed may be there, to be sent once more by its number.
			if times != 1 {
				t.Errorf("%d is there %d times (acknowledged: %v)", e, times, acknowledged)
			}
		}
		closeTestSpool(s, d)
		return reached
	}
	for fault, name := range map[Fault]string{Fails: "fails", FailsLate: "fails though it was made", DiesBefore: "dies before", DiesAfter: "dies after"} {
		t.Run(name, func(t *testing.T) {
			n := 1
			for ; trial(t, n, fault); n++ {
				if t.Failed() {
					t.Fatalf("write %d", n)
				}
			}
			if n < 20 {
				t.Errorf("only %d writes were tried", n)
			}
		})
	}
}

// A segment may end anywhere in what was written last. Damage anywhere else is refused, with file and byte.
func TestSpoolTellsTornFromDamaged(t *testing.T) {
	path := t.TempDir()
	s, _, d := openTestSpool(t, path, 1<<20, nil)
	var ends []int64
	for i := range 3 {
		if _, err := s.append(testEntry(i, 100)); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, s.active.size)
	}
	file := d.segmentPath(s.active.number)
	closeTestSpool(s, d)
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	open := func(content []byte) ([]*record, error) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), content, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := OpenDisk(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer d.close()
		s, records, err := openSpool(d, 1<<20, 1<<10, quiet)
		if err != nil {
			return nil, err
		}
		s.close()
		again, records2, err := openSpool(d, 1<<20, 1<<10, quiet)
		if err != nil || len(records2) != len(records) {
			t.Errorf("opened again: %d records, %v; want %d", len(records2), err, len(records))
		} else {
			again.close()
		}
		return records, nil
	}
	for size := ends[1]; size < ends[2]; size++ {
		if records, err := open(whole[:size]); err != nil || len(records) != 2 {
			t.Fatalf("cut off at %d: %d records, %v", size, len(records), err)
		}
	}
	for at := range whole {
		broken := bytes.Clone(whole)
		broken[at] ^= 0x40
		records, err := open(broken)
		if int64(at) >= ends[1] {
			if err != nil || len(records) != 2 {
				t.Fatalf("changed at %d, in the last frame: %d records, %v", at, len(records), err)
			}
			continue
		}
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "byte ") {
			t.Fatalf("changed at %d: %d records, %v; want ErrDamaged with the byte", at, len(records), err)
		}
	}
}

func TestOnlyTheLastSegmentMayBeTorn(t *testing.T) {
	path := t.TempDir()
	s, _, d := openTestSpool(t, path, 1<<20, nil)
	for i := range 6 {
		if _, err := s.append(testEntry(i, 30_000)); err != nil {
			t.Fatal(err)
		}
	}
	numbers, err := d.segments()
	if err != nil || len(numbers) < 2 {
		t.Fatalf("segments %v, %v", numbers, err)
	}
	first := d.segmentPath(numbers[0])
	closeTestSpool(s, d)
	if err := os.Truncate(first, 1000); err != nil {
		t.Fatal(err)
	}
	again, err := OpenDisk(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	if _, _, err := openSpool(again, 1<<20, 1<<10, quiet); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "segment 1") {
		t.Errorf("%v, want ErrDamaged that names the segment", err)
	}
}

func FuzzSegment(f *testing.F) {
	frame := func(number uint64, entries ...entry) []byte {
		b := make([]byte, frameHeader)
		for _, e := range entries {
			b = appendRecord(b, e.append(nil))
		}
		sealFrame(b, number)
		return b
	}
	traced := testEntry(2, 20)
	traced.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	one, two := frame(1, testEntry(1, 5), traced), frame(2, testEntry(3, 300))
	for _, seed := range [][]byte{nil, one, two, slices.Concat(one, two), slices.Concat(one, two)[:len(one)+30], slices.Concat(two, one), make([]byte, 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		places, whole, err := scanSegment(data)
		if err != nil {
			return
		}
		if whole > len(data) {
			t.Fatalf("whole to %d of %d bytes", whole, len(data))
		}
		for _, p := range places {
			e, err := entryAt(data[p.offset-recordHeader:])
			if err != nil {
				t.Fatalf("the record at %d: %v", p.offset, err)
			}
			if again := e.append(nil); !bytes.Equal(again, data[p.offset:p.offset+int64(p.length)]) {
				t.Fatalf("the record at %d is not what would be written:\n%x\n%x", p.offset, data[p.offset:p.offset+int64(p.length)], again)
			}
		}
	})
}

func FuzzKept(f *testing.F) {
	for i := range 3 {
		k := kept{Name: fmt.Sprintf("till-%d", i), Claim: "x", Epoch: uint64(i), Clean: i == 1, Holds: Numbers{3: 7}}
		data, err := k.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)-3])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := decodeKept(data)
		if err != nil {
			return
		}
		if again, err := k.encode(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("not what would be written: %v\n%s\n%s", err, data, again)
		}
	})
}

func FuzzJournal(f *testing.F) {
	h := word{kind: wordStart, id: "a", pair: pair{"gold", "ann"}, at: 5, weight: events.Weight{Lo: 7}}
	words := []word{
		h, {kind: wordStop, id: "a", at: 6}, {kind: wordBalance, pair: h.pair, at: 7, weight: events.MaxWeight}, {kind: wordStartStored, id: "a"},
		{kind: wordStopStored, id: "a"}, {kind: wordBalanceGiven, pair: h.pair, at: 7, weight: events.MaxWeight}, {kind: wordInstant, pair: h.pair, at: 9},
		{kind: wordFloor, at: 3},
	}
	for _, w := range words {
		f.Add(w.append(nil))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		w, err := readWord(data)
		if err != nil {
			return
		}
		if again := w.append(nil); !bytes.Equal(again, data) {
			t.Fatalf("not what would be written:\n%x\n%x", data, again)
		}
		state := newTracked()
		for _, w := range append(words[:3:3], w) {
			state.apply(&w)
		}
		again := newTracked()
		for _, w := range state.words() {
			again.apply(&w)
		}
		if diff := cmp.Diff(state.words(), again.words(), cmp.AllowUnexported(word{}, pair{})); diff != "" {
			t.Fatalf("a compacted journal says something else (-want +got):\n%s", diff)
		}
	})
}
