package archive

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/jetstream"
)

var testCreated = time.Unix(1_767_225_600, 123_456_789).UTC()

func testManifest(stream string) manifest {
	return newManifest(stream, testCreated, map[string]string{"ttl": "0s", "window": "24h0m0s"})
}

// testMessage returns the message of a sequence: every other one has headers.
func testMessage(sequence uint64) jetstream.Message {
	m := jetstream.Message{
		Sequence: sequence, Time: testCreated.Add(time.Duration(sequence) * time.Second), Subject: fmt.Sprintf("hold.p.%d", sequence%16),
		Data: fmt.Appendf(nil, "message %d: %d", sequence, sequence*7919),
	}
	if sequence%2 == 0 {
		m.Header = jetstream.Header{"Nats-Msg-Id": {fmt.Sprint(sequence)}, "b": {"", "x\x00\xff"}}
	}
	return m
}

// write adds messages to an archive and seals them, in segments of so many messages.
func write(t testing.TB, dir string, m manifest, through uint64, each uint64) {
	t.Helper()
	a := appendTo(t, dir, m)
	for a.at < through {
		message := testMessage(a.at + 1)
		if _, err := a.add(&message); err != nil {
			t.Fatal(err)
		}
		if a.at%each == 0 {
			must(t, a.seal())
		}
	}
	must(t, a.seal())
}

func appendTo(t testing.TB, dir string, m manifest) *appender {
	t.Helper()
	a, err := openAppender(dir, m, 0)
	must(t, err)
	return a
}

// read reads what an archive has of a stream.
func read(t testing.TB, dir, stream string) ([]jetstream.Message, error) {
	t.Helper()
	a, err := Open(dir)
	if err != nil {
		return nil, err
	}
	var all []jetstream.Message
	for m, err := range a.Messages(t.Context(), stream, 1, math.MaxUint64) {
		if err != nil {
			return all, err
		}
		all = append(all, m)
	}
	return all, nil
}

// segmentFiles returns the names of a stream's segments, in order.
func segmentFiles(t testing.TB, dir, stream string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, stream, "*"+segmentSuffix))
	must(t, err)
	return names
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t testing.TB, want, got any, what string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

// edit changes a file.
func edit(t testing.TB, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, change(b), 0o600))
}

// copyFolder copies an archive.
func copyFolder(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	must(t, os.CopyFS(to, os.DirFS(from)))
	return to
}
