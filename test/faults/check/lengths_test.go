package check

import (
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// What says that it is longer than it is costs nothing; what is as long as it says is read.
func TestLengthsAreHeldAgainstWhatIsThere(t *testing.T) {
	for name, value := range map[string]string{
		"an array":       "\xdd\xff\xff\xff\xff",
		"in an array":    "\x92\x01\xdd\x7f\xff\xff\xff\x01",
		"bytes":          "\xc6\xff\xff\xff\xff",
		"a text":         "\xdb\xff\xff\xff\xff",
		"a map":          "\xdf\xff\xff\xff\xff",
		"an integer":     "\xcf\x01",
		"half a length":  "\xdd\xff",
		"arrays forever": strings.Repeat("\x9f", 100),
		"nothing":        "",
	} {
		if err := checkLengths([]byte(value)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for _, value := range []any{
		nil, 0, 127, 128, 70_000, uint64(1 << 40), -1, -1000, "", strings.Repeat("x", 31), strings.Repeat("x", 300), strings.Repeat("x", 70_000),
		make([]byte, 3), make([]byte, 300), make([]byte, 70_000), []any{1, []any{"a", nil}, []byte{1}}, make([]any, 20), make([]any, 70_000),
	} {
		b, err := msgpack.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkLengths(b); err != nil {
			t.Errorf("%T in %d bytes: %v", value, len(b), err)
		}
	}
}
