package archive

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/jetstream"
)

// Whatever the messages and the size of segments, and wherever the archiver dies and goes on, the archive has what was added and is read as it was.
func TestWhatIsArchivedIsReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "archive-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		messages := drawMessages(t)
		m := testManifest("HOLDS")
		limit := rapid.Int64Range(1, 1500).Draw(t, "limit")
		for done := false; !done; {
			a, err := openAppender(dir, m, limit)
			if err != nil {
				t.Fatalf("go on: %v", err)
			}
			dies := rapid.IntRange(0, len(messages)).Draw(t, "dies after")
			n := 0
			for ; a.at < uint64(len(messages)) && n < dies; n++ {
				if _, err := a.add(&messages[a.at]); err != nil {
					t.Fatal(err)
				}
			}
			if done = a.at == uint64(len(messages)); done || rapid.Bool().Draw(t, "in good order") {
				if err := a.seal(); err != nil {
					t.Fatal(err)
				}
				continue
			}
			open := a.open
			if err := a.abandon(); err != nil {
				t.Fatal(err)
			}
			if open != nil { // as much of it as reached the disk
				info, err := os.Stat(open.path)
				if err == nil {
					err = os.Truncate(open.path, rapid.Int64Range(0, info.Size()).Draw(t, "left"))
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "HOLDS", "*"+freshSuffix)); len(left) > 1 {
				t.Fatalf("%d files are not whole", len(left))
			}
		}
		archive, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		from := rapid.Uint64Range(1, uint64(len(messages))+1).Draw(t, "from")
		through := rapid.Uint64Range(from, uint64(len(messages))+2).Draw(t, "through")
		want := messages[min(from-1, uint64(len(messages))):min(through, uint64(len(messages)))]
		var got []jetstream.Message
		for m, err := range archive.Messages(t.Context(), "HOLDS", from, through) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, m)
		}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("messages %d to %d (-want +got):\n%s", from, through, diff)
		}
		report, err := Verify(t.Context(), dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := report.Streams[0]
		ranges := []Range{}
		if len(messages) > 0 {
			ranges = []Range{{1, uint64(len(messages))}}
		}
		if diff := cmp.Diff(ranges, s.Ranges); diff != "" || len(s.Problems) > 0 || s.Messages != uint64(len(messages)) {
			t.Fatalf("verified: %+v", s)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, "HOLDS", "*"+freshSuffix)); len(left) > 0 {
			t.Fatalf("left behind: %v", left)
		}
	})
}

func drawMessages(t *rapid.T) []jetstream.Message {
	text := rapid.Custom(func(t *rapid.T) string { return string(rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "bytes")) })
	list := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) jetstream.Message {
		m := jetstream.Message{
			Time:    time.Unix(0, rapid.Int64Range(0, 1<<62).Draw(t, "time")).UTC(),
			Subject: text.Draw(t, "subject"), Data: rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "data"),
		}
		if headers := rapid.MapOfN(text, rapid.SliceOfN(text, 0, 3), 0, 3).Draw(t, "headers"); len(headers) > 0 {
			m.Header = headers
		}
		return m
	}), 0, 20).Draw(t, "messages")
	for i := range list {
		list[i].Sequence = uint64(i + 1)
	}
	return list
}

// A message as large as a stream takes is archived, and a segment is cut where it is full.
func TestLargeMessages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := appendTo(t, dir, testManifest("HOLDS"))
	a.limit = 3 << 20
	var want []jetstream.Message
	for i := range uint64(7) {
		m := testMessage(i + 1)
		m.Data = bytes.Repeat([]byte{byte(i)}, jetstream.MaxMessage)
		_, err := a.add(&m)
		must(t, err)
		want = append(want, m)
	}
	must(t, a.seal())
	got, err := read(t, dir, "HOLDS")
	must(t, err)
	if !slices.EqualFunc(want, got, func(a, b jetstream.Message) bool { return same(&a, &b) }) { // a difference would be long
		t.Errorf("%d messages that are not those that were added", len(got))
	}
	if n := len(segmentFiles(t, dir, "HOLDS")); n != 4 {
		t.Errorf("%d segments, want 4 of at most two messages", n)
	}
	huge := testMessage(8)
	huge.Data = make([]byte, maxRecord)
	if _, err := a.add(&huge); err == nil {
		t.Error("a message that could not be read back is archived")
	}
}

// What is wrong with an archive is found and said, never overlooked.
func TestWhatIsWrongIsFound(t *testing.T) {
	t.Parallel()
	whole := t.TempDir()
	write(t, whole, testManifest("HOLDS"), 10, 3) // 1-3, 4-6, 7-9, 10
	write(t, whole, testManifest("POH"), 10, 3)
	shorter := t.TempDir()
	write(t, shorter, testManifest("HOLDS"), 10, 5)
	edited := func(change func(*manifest)) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			m := testManifest("HOLDS")
			change(&m)
			must(t, os.WriteFile(filepath.Join(dir, "HOLDS", manifestName), m.encode(), 0o600))
		}
	}
	for _, test := range []struct {
		name   string
		change func(t *testing.T, dir string)
		want   error
		says   string
	}{
		{"a segment is missing", func(t *testing.T, dir string) { must(t, os.Remove(segmentFiles(t, dir, "HOLDS")[1])) },
			ErrGap, "has no messages 4 to 6, which come between 00000000000000000001-00000000000000000003.segment and 00000000000000000007-"},
		{"the first segment is missing", func(t *testing.T, dir string) { must(t, os.Remove(segmentFiles(t, dir, "HOLDS")[0])) },
			ErrGap, "has no messages 1 to 3, which come between manifest.json and 00000000000000000004-"},
		{"two segments are swapped", func(t *testing.T, dir string) {
			f := segmentFiles(t, dir, "HOLDS")
			must(t, errors.Join(os.Rename(f[1], f[1]+"x"), os.Rename(f[2], f[1]), os.Rename(f[1]+"x", f[2])))
		}, ErrDamaged, "by what it contains it has the messages 7 to 9, which is not what its name says"},
		{"a segment of another stream", func(t *testing.T, dir string) {
			f, of := segmentFiles(t, dir, "HOLDS")[1], segmentFiles(t, dir, "POH")[1]
			edit(t, f, func([]byte) []byte { b, err := os.ReadFile(of); must(t, err); return b })
		}, ErrForeign, "it is of the stream POH made at 2026-01-01T00:00:00.123456789Z, the manifest of HOLDS"},
		{"a segment of another archive of the stream", func(t *testing.T, dir string) {
			edit(t, segmentFiles(t, dir, "HOLDS")[3], func([]byte) []byte {
				b := testMessage(10)
				b.Data = []byte("other")
				other := t.TempDir()
				a := appendTo(t, other, testManifest("HOLDS"))
				for a.at < 9 {
					m := testMessage(a.at + 1)
					m.Data = append(m.Data, '!')
					_, err := a.add(&m)
					must(t, err)
				}
				must(t, a.seal())
				_, err := a.add(&b)
				must(t, errors.Join(err, a.seal()))
				text, err := os.ReadFile(segmentFiles(t, other, "HOLDS")[1])
				must(t, err)
				return text
			})
		}, ErrDamaged, "what is before it, 00000000000000000007-00000000000000000009.segment, is not the segment that it was written behind"},
		{"segments overlap", func(t *testing.T, dir string) {
			must(t, os.Link(segmentFiles(t, shorter, "HOLDS")[0], filepath.Join(dir, "HOLDS", segmentName(1, 5))))
		}, ErrDamaged, "it begins at sequence 1, and the segment before it, 00000000000000000001-00000000000000000003.segment, ends at 3"},
		{"a segment is renamed", func(t *testing.T, dir string) {
			must(t, os.Rename(segmentFiles(t, dir, "HOLDS")[3], filepath.Join(dir, "HOLDS", segmentName(10, 11))))
		}, ErrDamaged, "it has the messages 10 to 10, which is not what its name says"},
		{"a segment is cut off", func(t *testing.T, dir string) {
			edit(t, segmentFiles(t, dir, "HOLDS")[1], func(b []byte) []byte { return b[:len(b)-20] })
		}, ErrDamaged, "it does not end with what its name says: it is cut off, or was edited"},
		{"the policy is edited", edited(func(m *manifest) { m.Policy["ttl"] = "1h0m0s" }), ErrDamaged, "manifest.json: the archive is damaged: it was edited"},
		{"the identity is edited", edited(func(m *manifest) { m.Created++ }), ErrForeign, "it is of the stream HOLDS made at 2026-01-01T00:00:00.123456789Z, the manifest of HOLDS made at 2026-01-01T00:00:00.12345679Z"},
		{"the manifest is another stream's", edited(func(m *manifest) { m.Stream = "POH" }), ErrForeign, "it is the manifest of POH, in the folder of HOLDS"},
		{"the version is another", edited(func(m *manifest) { m.Version = 2 }), ErrDamaged, "version 2, and this program reads version 1"},
		{"the manifest is written otherwise", func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "HOLDS", manifestName), func(b []byte) []byte { return append(b, '\n') })
		}, ErrDamaged, "it is not in the form in which it is written"},
		{"the manifest is no JSON", func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "HOLDS", manifestName), func(b []byte) []byte { return b[:20] })
		}, ErrDamaged, "it is no manifest"},
		{"the manifest is huge", func(t *testing.T, dir string) {
			edit(t, filepath.Join(dir, "HOLDS", manifestName), func([]byte) []byte { return make([]byte, maxManifest+1) })
		}, ErrDamaged, "more than 1048576 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := copyFolder(t, whole)
			test.change(t, dir)
			if _, err := read(t, dir, "HOLDS"); !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("read: %v\nwant %q with %v", err, test.says, test.want)
			}
			report, err := Verify(t.Context(), dir, nil)
			must(t, err)
			if s := report.Streams[0]; !report.Problems() || s.Stream != "HOLDS" || !strings.Contains(strings.Join(s.Problems, "\n"), test.says) {
				t.Errorf("verify: %+v", s)
			}
			if s := report.Streams[1]; len(s.Problems) > 0 || s.Messages != 10 {
				t.Errorf("verify, the other stream: %+v", s)
			}
			if _, err := openAppender(dir, testManifest("HOLDS"), 0); !errors.Is(err, test.want) {
				t.Errorf("go on: %v", err)
			}
		})
	}
}

// Every bit and every length of a segment counts.
func TestEveryByteOfASegmentCounts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, testManifest("HOLDS"), 6, 3)
	write(t, dir, testManifest("POH"), 0, 3)
	for _, path := range segmentFiles(t, dir, "HOLDS") {
		good, err := os.ReadFile(path)
		must(t, err)
		refused := func(bad []byte, what string, at int) {
			must(t, os.WriteFile(path, bad, 0o600))
			if _, err := read(t, dir, "HOLDS"); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeign) && !errors.Is(err, ErrGap) {
				t.Fatalf("%s at %d of %s: %v", what, at, filepath.Base(path), err)
			}
			if at%8 != 0 {
				return // to read it twice takes long
			}
			report, err := Verify(t.Context(), dir, nil)
			if err != nil || !report.Problems() {
				t.Fatalf("%s at %d of %s: verify finds nothing: %v", what, at, filepath.Base(path), err)
			}
		}
		for i := range good {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << (i % 8)
			refused(bad, "a flipped bit", i)
			refused(good[:i], "cut off", i)
		}
		refused(append(bytes.Clone(good), 0), "a byte more", len(good))
		must(t, os.WriteFile(path, good, 0o600))
		if report, err := Verify(t.Context(), dir, nil); err != nil || report.Problems() {
			t.Fatalf("put back: %+v, %v", report, err)
		}
	}
	if got, err := read(t, dir, "HOLDS"); err != nil || len(got) != 6 {
		t.Fatalf("put back: %d messages, %v", len(got), err)
	}
}

// A file that is changed between the opening of the archive and the reading of it is not taken for the one that was there.
func TestASegmentThatChangesMeanwhile(t *testing.T) {
	t.Parallel()
	dir, other := t.TempDir(), t.TempDir()
	write(t, dir, testManifest("HOLDS"), 3, 3)
	a := appendTo(t, other, testManifest("HOLDS"))
	for a.at < 3 {
		m := testMessage(a.at + 1)
		m.Data = []byte("other")
		_, err := a.add(&m)
		must(t, err)
	}
	must(t, a.seal())
	archive, err := Open(dir)
	must(t, err)
	edit(t, segmentFiles(t, dir, "HOLDS")[0], func([]byte) []byte { b, err := os.ReadFile(segmentFiles(t, other, "HOLDS")[0]); must(t, err); return b })
	for _, err := range archive.Messages(t.Context(), "HOLDS", 1, 3) {
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "it was changed since the archive was opened") {
			t.Errorf("got %v", err)
		}
	}
}

// A stream of which there is nothing is told: a log is a problem, since an archive has both, and another stream is noted, since there may have been none.
func TestVerifySaysWhichStreamIsAbsent(t *testing.T) {
	t.Parallel()
	whole := t.TempDir()
	for _, stream := range Streams() {
		write(t, whole, testManifest(stream), 3, 3)
	}
	for _, test := range []struct {
		name, remove, stream string
		problem, note        string
	}{
		{"a log", "POH", "POH", "there is nothing of the stream POH, and an archive always has a folder with a manifest.json of it", ""},
		{"the other log", "HOLDS", "HOLDS", "there is nothing of the stream HOLDS", ""},
		{"a log's manifest", "POH/manifest.json", "POH", "it has segments, and its manifest.json is gone: put it back", ""},
		{"another stream", "CHECKPOINTS", "CHECKPOINTS", "", "there is nothing of CHECKPOINTS: either there was no such stream when the archive was written, or its folder"},
		{"another stream's manifest", "REJECTED/manifest.json", "REJECTED", "it has segments, and its manifest.json is gone: put it back", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := copyFolder(t, whole)
			must(t, os.RemoveAll(filepath.Join(dir, test.remove)))
			report, err := Verify(t.Context(), dir, nil)
			must(t, err)
			if report.Problems() != (test.problem != "") || len(report.Streams) != 4 {
				t.Errorf("%+v", report)
			}
			for i, s := range report.Streams {
				problems, notes := strings.Join(s.Problems, "\n"), strings.Join(s.Notes, "\n")
				switch {
				case s.Stream != Streams()[i]:
					t.Errorf("%s is in the place of %s", s.Stream, Streams()[i])
				case s.Stream != test.stream:
					if problems+notes != "" || s.Messages != 3 {
						t.Errorf("%+v", s)
					}
				case !strings.Contains(problems, test.problem) || !strings.Contains(notes, test.note) || (problems == "") == (notes == ""):
					t.Errorf("%+v", s)
				}
			}
		})
	}
}

// A signed checkpoint of more than is archived of its stream is noted; one of another stream of the name, and what is no checkpoint, are nothing to go by.
func TestVerifyNotesACheckpointBeyondTheMessages(t *testing.T) {
	t.Parallel()
	secret, _, err := attest.GenerateKey("ledger.example.org")
	must(t, err)
	signer, err := attest.NewSigner(secret)
	must(t, err)
	signed := func(stream string, created time.Time, sequence uint64) []byte {
		b, err := signer.Sign(&attest.Statement{Name: signer.Name(), Stream: stream, Created: created.UnixNano(), Partition: 3, Size: sequence, Sequence: sequence, Policy: map[string]string{"ttl": "0s"}})
		must(t, err)
		return b
	}
	dir := t.TempDir()
	write(t, dir, testManifest("HOLDS"), 9, 3)
	write(t, dir, testManifest("POH"), 0, 3)
	write(t, dir, testManifest("REJECTED"), 0, 3)
	a := appendTo(t, dir, testManifest("CHECKPOINTS"))
	for i, data := range [][]byte{
		signed("HOLDS", testCreated, 4), signed("HOLDS", testCreated, 9), signed("HOLDS", testCreated, 5), signed("HOLDS", testCreated.Add(-1), 100), []byte("nonsense"), signed("POH", testCreated, 2),
	} {
		_, err := a.add(&jetstream.Message{Sequence: uint64(i + 1), Time: testCreated, Subject: "checkpoint.HOLDS.3", Data: data})
		must(t, err)
	}
	must(t, a.seal())
	notes := func() [][]string {
		report, err := Verify(t.Context(), dir, nil)
		must(t, err)
		if report.Problems() {
			t.Fatalf("%+v", report)
		}
		var all [][]string
		for _, s := range report.Streams {
			all = append(all, s.Notes)
		}
		return all
	}
	const why = ": the last segments were removed, or the archiver was stopped (or is still busy) before it had those messages, or the checkpoint is forged; archive --to brings them, if the stream still has them"
	poh := []string{"checkpoint 6 of CHECKPOINTS is of POH through sequence 2, and the archive has nothing of it" + why}
	equal(t, [][]string{{}, poh, {}, {}}, notes(), "with all of HOLDS")
	must(t, os.Remove(segmentFiles(t, dir, "HOLDS")[2]))
	equal(t, [][]string{{"checkpoint 2 of CHECKPOINTS is of HOLDS through sequence 9, and the archive has it through sequence 6" + why}, poh, {}, {}}, notes(), "without the newest segment of HOLDS")
}

// What is no archive is refused, and so is what an archive has nothing of.
func TestNoArchive(t *testing.T) {
	t.Parallel()
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is no archive") {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	dir := t.TempDir()
	write(t, dir, testManifest("HOLDS"), 1, 1)
	a, err := Open(dir)
	must(t, err)
	_, err1 := a.State(t.Context(), jetstream.PoH)
	_, err2 := a.Policy(t.Context(), jetstream.PoH)
	for _, err := range a.Messages(t.Context(), "POH", 1, 1) {
		err1 = errors.Join(err1, err)
	}
	if !errors.Is(err1, ErrNothing) || !errors.Is(err2, ErrNothing) {
		t.Errorf("of a stream that is not there: %v, %v", err1, err2)
	}
	s, err := a.State(t.Context(), jetstream.Holds)
	must(t, err)
	equal(t, jetstream.State{Created: testCreated, FirstSequence: 1, LastSequence: 1, LastTime: testMessage(1).Time}, s, "state")
	must(t, os.Remove(filepath.Join(dir, "HOLDS", manifestName)))
	if _, err := openAppender(dir, testManifest("HOLDS"), 0); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "its manifest.json is gone") {
		t.Errorf("segments without a manifest: %v", err)
	}
}

// Two processes cannot add to one archive.
func TestOneProcessAddsAtATime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lock, err := lockFolder(dir)
	must(t, err)
	if _, err := lockFolder(dir); err == nil || !strings.Contains(err.Error(), "another process adds to the archive") {
		t.Errorf("a second one: %v", err)
	}
	must(t, lock.Close())
	lock, err = lockFolder(dir)
	must(t, err)
	must(t, lock.Close())
}
