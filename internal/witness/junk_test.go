package witness

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/city-chain/holdfast/jetstream"
)

// What others put beside the log's signature is not in what is cosigned, however much of it there is, so the folder can be opened again.
func TestJunkBesideTheSignature(t *testing.T) {
	const maxNote = 64 << 10 // bytes
	junk := func(i, size int) string {
		return fmt.Sprintf("— junk%d %s\n", i, base64.StdEncoding.EncodeToString([]byte(strings.Repeat("j", size))))
	}
	lines := func(n int) func(string) string {
		return func(note string) string {
			for i := range n {
				note += junk(i, 68)
			}
			return note
		}
	}
	for name, test := range map[string]struct {
		add    func(note string) string
		opened bool // it is a signed checkpoint
	}{
		"no line":    {lines(0), true},
		"99 lines":   {lines(99), true},
		"100 lines":  {lines(100), false}, // 101 with the log's
		"over bytes": {func(note string) string { return note + junk(0, maxNote) }, false},
		"as many bytes as there may be": {func(note string) string {
			size := (maxNote - len(note) - len(junk(0, 0))) / 4 * 3
			for len(note)+len(junk(0, size)) > maxNote {
				size--
			}
			if note += junk(0, size); maxNote-len(note) > 100 {
				t.Fatalf("%d bytes", len(note))
			}
			return note
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.add(jetstream.Holds, 3, 3)
			st := w.statement(&source{client: w.client}, jetstream.Holds, 3)
			note, err := w.signer.Sign(st)
			w.must(err)
			w.publish(jetstream.Holds, 3, []byte(test.add(string(note))))
			s, err := w.once()
			if !test.opened {
				if !errors.Is(err, ErrRefused) || s.Cosigned != 0 || len(s.Refused) != 1 || s.Refused[0].Reason != Unsigned {
					t.Fatalf("%+v, %v", s, err)
				}
			} else if err != nil || s.Cosigned != 1 {
				t.Fatalf("%+v, %v", s, err)
			}
			w.add(jetstream.Holds, 3, 1)
			w.sign(jetstream.Holds, 3)
			w.cosigned(1)
			w.kept(jetstream.Holds, 3)
			b, err := os.ReadFile(w.dir + "/HOLDS.3.record")
			w.must(err)
			if strings.Contains(string(b), "junk") {
				t.Errorf("recorded: %s", b)
			}
		})
	}
}
