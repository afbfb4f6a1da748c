package wire_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/wire"
)

// value is any value of the subset: nil, uint64, string, []byte or []value.
type value = any

func appendValue(b []byte, v value) []byte {
	switch v := v.(type) {
	case nil:
		return wire.AppendNil(b)
	case uint64:
		return wire.AppendUint(b, v)
	case string:
		return wire.AppendString(b, v)
	case []byte:
		return wire.AppendBytes(b, v)
	case []value:
		b = wire.AppendArray(b, len(v))
		for _, e := range v {
			b = appendValue(b, e)
		}
		return b
	}
	panic("not a value of the subset")
}

// readValue reads whatever value is next, to depth levels of arrays.
func readValue(r *wire.Reader, in string, depth int) value {
	if r.Nil() {
		return nil
	}
	if r.Offset() >= len(in) || r.Err() != nil {
		r.Fail("a value is missing")
		return nil
	}
	switch c := in[r.Offset()]; {
	case c < 0x80, c >= 0xcc && c <= 0xcf:
		return r.Uint()
	case c&0xe0 == 0xa0, c >= 0xd9 && c <= 0xdb:
		return r.String()
	case c >= 0xc4 && c <= 0xc6:
		return []byte(r.Bytes())
	case depth > 0:
		n := r.Array()
		list := make([]value, 0, n)
		for range n {
			list = append(list, readValue(r, in, depth-1))
		}
		return list
	}
	r.Fail("too deep")
	return nil
}

func drawValue(t *rapid.T, depth int) value {
	kinds := 4
	if depth > 0 {
		kinds = 5
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		shift := rapid.IntRange(0, 63).Draw(t, "shift")
		return rapid.Uint64().Draw(t, "uint") >> shift
	case 2:
		return strings.Repeat("s", drawLength(t))
	case 3:
		return bytes.Repeat([]byte{0xb0}, drawLength(t))
	}
	list := make([]value, rapid.IntRange(0, 20).Draw(t, "elements"))
	for i := range list {
		list[i] = drawValue(t, depth-1)
	}
	return list
}

func drawLength(t *rapid.T) int {
	return rapid.OneOf(rapid.IntRange(0, 300), rapid.SampledFrom([]int{31, 32, 255, 256, 65535, 65536})).Draw(t, "length")
}

func TestWhatIsWrittenIsReadAgain(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawValue(t, 3)
		in := string(appendValue(nil, want))
		r := wire.NewReader(in)
		got := readValue(&r, in, 4)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if again := string(appendValue(nil, got)); again != in {
			t.Fatalf("read back as %x, written as %x", again, in)
		}
	})
}

// The library is another reader of the same format: it must see what was written.
func TestAgreesWithTheLibrary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64().Draw(t, "uint") >> rapid.IntRange(0, 63).Draw(t, "shift")
		s := strings.Repeat("x", drawLength(t))
		b := wire.AppendArray(nil, 3)
		b = wire.AppendString(wire.AppendBytes(wire.AppendUint(b, n), []byte(s)), s)
		d := msgpack.NewDecoder(bytes.NewReader(b))
		length, err := d.DecodeArrayLen()
		if err != nil || length != 3 {
			t.Fatalf("the library reads the array's header as %d, %v", length, err)
		}
		gotN, err1 := d.DecodeUint64()
		gotB, err2 := d.DecodeBytes()
		gotS, err3 := d.DecodeString()
		if err := errors.Join(err1, err2, err3); err != nil || gotN != n || string(gotB) != s || gotS != s {
			t.Fatalf("the library reads %d, %d bytes, %d characters, %v; written were %d and %d", gotN, len(gotB), len(gotS), err, n, len(s))
		}
	})
}

func TestRefused(t *testing.T) {
	uintOf := func(r *wire.Reader) { r.Uint() }
	stringOf := func(r *wire.Reader) { _ = r.String() }
	bytesOf := func(r *wire.Reader) { r.Bytes() }
	arrayOf := func(r *wire.Reader) { r.Array() }
	for _, tt := range []struct {
		name, in string
		read     func(*wire.Reader)
	}{
		{"no integer", "", uintOf},
		{"a longer integer than needed, 8 bits", "\xcc\x7f", uintOf},
		{"16 bits", "\xcd\x00\xff", uintOf},
		{"32 bits", "\xce\x00\x00\xff\xff", uintOf},
		{"64 bits", "\xcf\x00\x00\x00\x00\xff\xff\xff\xff", uintOf},
		{"an integer that is cut off", "\xcf\x00\x00\x00\x01", uintOf},
		{"a negative integer", "\xff", uintOf},
		{"a float", "\xcb\x00\x00\x00\x00\x00\x00\x00\x00", uintOf},
		{"over the limit", "\x05", func(r *wire.Reader) { r.UintMax(4) }},
		{"no string", "", stringOf},
		{"a longer string header than needed", "\xd9\x01a", stringOf},
		{"16 bits for 255", "\xda\x00\xff" + strings.Repeat("a", 255), stringOf},
		{"32 bits for 65535", "\xdb\x00\x00\xff\xff" + strings.Repeat("a", 65535), stringOf},
		{"a string of gigabytes", "\xdb\xff\xff\xff\xff", stringOf},
		{"a string that is cut off", "\xa3ab", stringOf},
		{"an integer for a string", "\x01", stringOf},
		{"no bytes", "", bytesOf},
		{"a string for bytes", "\xa1a", bytesOf},
		{"bytes with a longer header than needed", "\xc5\x00\x01a", bytesOf},
		{"no array", "", arrayOf},
		{"an array of gigabytes", "\xdd\xff\xff\xff\xff", arrayOf},
		{"an integer for an array", "\x00\x01\x01", arrayOf},
		{"the byte that starts nothing, for an array", "\xc1\x01\x01", arrayOf},
		{"an array with a longer header than needed", "\xdc\x00\x01\x01", arrayOf},
		{"an array with more elements than bytes", "\x93\x01\x01", arrayOf},
		{"bytes behind the end", "\x01\x01", uintOf},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := wire.NewReader(tt.in)
			tt.read(&r)
			if err := r.Close(); !errors.Is(err, wire.ErrMalformed) {
				t.Errorf("accepted: %v", err)
			}
			if r.Uint() != 0 || r.String() != "" || r.Bytes() != "" || r.Array() != 0 || r.Nil() {
				t.Error("after a failure values are still read")
			}
		})
	}
}

func FuzzReader(f *testing.F) {
	for _, v := range []value{nil, uint64(1) << 40, "text", []byte("bytes"), []value{uint64(7), []value{"a", nil}}} {
		f.Add(string(appendValue(nil, v)))
	}
	f.Add("\xdd\xff\xff\xff\xff")
	f.Fuzz(func(t *testing.T, in string) {
		r := wire.NewReader(in)
		v := readValue(&r, in, 8)
		if r.Close() != nil {
			return
		}
		if again := string(appendValue(nil, v)); again != in {
			t.Fatalf("accepted %x, which is written as %x", in, again)
		}
	})
}

// Skip passes over exactly what reading a value reads, and fails on a value that is cut off.
func TestSkip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := appendValue(nil, drawValue(t, 3))
		r := wire.NewReader(string(b) + "\x01")
		r.Skip()
		if r.Err() != nil || r.Offset() != len(b) {
			t.Fatalf("%x: skipped %d of %d bytes, %v", b, r.Offset(), len(b), r.Err())
		}
		cut := wire.NewReader(string(b[:rapid.IntRange(0, len(b)-1).Draw(t, "cut")]))
		if cut.Skip(); !errors.Is(cut.Err(), wire.ErrMalformed) {
			t.Fatalf("%x: what is cut off is skipped", b)
		}
	})
	for _, bad := range []string{"\xc1", "\xc2", "\x80", "\xe0", "\xdd\xff\xff\xff\xff\x00", "\xc6\xff\xff\xff\xff\x00"} {
		r := wire.NewReader(bad)
		if r.Skip(); !errors.Is(r.Err(), wire.ErrMalformed) {
			t.Errorf("%x is skipped", bad)
		}
	}
}
