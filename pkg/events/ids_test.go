package events_test

import (
	"hash/fnv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/events"
)

func TestEncodeID(t *testing.T) {
	for id, want := range map[string]string{
		"alice": "alice", "A-Z_09": "A-Z_09", "a.b": "a=2Eb", "*": "=2A", ">": "=3E", " ": "=20", "=": "=3D", "\x00\n": "=00=0A",
		"é": "=C3=A9", "%": "=25", "a/b": "a=2Fb",
	} {
		if got := events.EncodeID(id); got != want {
			t.Errorf("%q is encoded as %q, want %q", id, got, want)
		}
	}
	for _, token := range []string{"=4", "=", "=2e", "=41", "a.b", "=G0", "a b", "é"} {
		if id, err := events.DecodeID(token); err == nil {
			t.Errorf("%q, which nothing is encoded as, is decoded as %q", token, id)
		}
	}
}

func TestIDsAreEncodedOneToOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := drawID(t, "id")
		token := events.EncodeID(id)
		if strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=") != "" {
			t.Fatalf("%q is encoded as %q, which is no token of a subject and a key", id, token)
		}
		back, err := events.DecodeID(token)
		if err != nil || back != id {
			t.Fatalf("%q is encoded as %q and decoded as %q, %v", id, token, back, err)
		}
	})
}

// The hash is the standard library's, over the encoded id; jetstream/ holds it against the server's own.
func TestPlaceOf(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := drawID(t, "id")
		h := fnv.New32a()
		h.Write([]byte(events.EncodeID(id)))
		want := events.Place{Partition: int(h.Sum32() % 16), Slot: int(h.Sum32() / 16 % 256)}
		if got := events.PlaceOf(id); got != want {
			t.Fatalf("%q lies in %+v, want %+v", id, got, want)
		}
	})
}

func BenchmarkPlaceOf(b *testing.B) {
	for b.Loop() {
		events.PlaceOf("holder-123456789")
	}
}
