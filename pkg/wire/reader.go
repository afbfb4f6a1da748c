package wire

import (
	"errors"
	"fmt"
	"math"
)

// ErrMalformed is wrapped by every error of a [Reader].
var ErrMalformed = errors.New("malformed encoding")

// Reader reads canonical values from the front of a string. The first failure sticks: from then on every
// method returns a zero value and [Reader.Err] says what was wrong and at which byte, so a caller may read
// a whole record and check once. A Reader never allocates by a length that the input claims.
//
// Strings that it returns share the memory of the input; a caller that keeps one for long clones it.
type Reader struct {
	s   string
	at  int
	err error
}

// NewReader returns a reader of s.
func NewReader(s string) Reader { return Reader{s: s} }

// Err returns the first failure, or nil.
func (r *Reader) Err() error { return r.err }

// Offset returns how many bytes have been read.
func (r *Reader) Offset() int { return r.at }

// Text returns the input from an offset on, one that Offset returned, to what is read next. It shares the memory of the input.
func (r *Reader) Text(from int) string { return r.s[from:r.at] }

// Close returns the first failure; if there was none, that bytes are left is one.
func (r *Reader) Close() error {
	if r.err == nil && r.at < len(r.s) {
		r.Fail("%d bytes follow the end", len(r.s)-r.at)
	}
	return r.err
}

// Fail records a failure at the present byte, for a caller that found a value to be wrong. The first one stays.
func (r *Reader) Fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w at byte %d: %s", ErrMalformed, r.at, fmt.Sprintf(format, args...))
	}
	r.at = len(r.s)
}

// Nil reads a nil if one is next, and tells whether it was.
func (r *Reader) Nil() bool {
	if r.at < len(r.s) && r.s[r.at] == codeNil {
		r.at++
		return true
	}
	return false
}

// NextIsBytes tells whether the next value is a byte string, for a field that has two forms.
func (r *Reader) NextIsBytes() bool {
	return r.at < len(r.s) && r.s[r.at] >= codeBin8 && r.s[r.at] <= codeBin32
}

// Uint reads an unsigned integer.
func (r *Reader) Uint() uint64 {
	if r.at >= len(r.s) {
		r.Fail("an integer is missing")
		return 0
	}
	c := r.s[r.at]
	if c <= maxFixUint {
		r.at++
		return uint64(c)
	}
	rest := r.s[r.at+1:]
	var v, least uint64
	var n int
	switch {
	case c == codeUint64 && len(rest) >= 8:
		v, n, least = be64(rest), 8, math.MaxUint32+1
	case c == codeUint32 && len(rest) >= 4:
		v, n, least = uint64(be32(rest)), 4, math.MaxUint16+1
	case c == codeUint16 && len(rest) >= 2:
		v, n, least = uint64(rest[0])<<8|uint64(rest[1]), 2, math.MaxUint8+1
	case c == codeUint8 && len(rest) >= 1:
		v, n, least = uint64(rest[0]), 1, maxFixUint+1
	default:
		r.Fail("0x%02x does not start a whole unsigned integer", c)
		return 0
	}
	if v < least {
		r.Fail("an integer is not in its shortest form")
		return 0
	}
	r.at += 1 + n
	return v
}

// UintMax reads an unsigned integer of at most limit.
func (r *Reader) UintMax(limit uint64) uint64 {
	v := r.Uint()
	if v > limit {
		r.Fail("%d is over %d", v, limit)
		return 0
	}
	return v
}

// String reads a string.
func (r *Reader) String() string {
	if r.at >= len(r.s) {
		r.Fail("a string is missing")
		return ""
	}
	c := r.s[r.at]
	if c&^maxFixStr == codeFixStr {
		return r.take(1, int(c&maxFixStr))
	}
	head, n, least := r.header(c, codeStr8, codeStr16, codeStr32)
	if head == 0 || n < max(least, maxFixStr+1) {
		r.Fail("0x%02x does not start a string in its shortest form", c)
		return ""
	}
	return r.take(head, n)
}

// Bytes reads a byte string, returned as a string that shares the memory of the input.
func (r *Reader) Bytes() string {
	if r.at >= len(r.s) {
		r.Fail("a byte string is missing")
		return ""
	}
	c := r.s[r.at]
	head, n, least := r.header(c, codeBin8, codeBin16, codeBin32)
	if head == 0 || n < least {
		r.Fail("0x%02x does not start a byte string in its shortest form", c)
		return ""
	}
	return r.take(head, n)
}

// Array reads the header of an array and returns the number of its elements, which follow. An array that
// claims more elements than bytes are left is malformed.
func (r *Reader) Array() int {
	if r.at >= len(r.s) {
		r.Fail("an array is missing")
		return 0
	}
	c := r.s[r.at]
	if c&^maxFixArray == codeFixArray {
		r.at++
		return r.elements(int(c & maxFixArray))
	}
	head, n, least := r.header(c, codeUnused, codeArray16, codeArray32)
	if head == 0 || n < max(least, maxFixArray+1) {
		r.Fail("0x%02x does not start an array in its shortest form", c)
		return 0
	}
	r.at += head
	return r.elements(n)
}

// Skip reads one value of any kind, with all that is in it. What it passes over need not be in the shortest form.
func (r *Reader) Skip() {
	for open := 1; open > 0 && r.err == nil; open-- {
		if r.at >= len(r.s) {
			r.Fail("a value is missing")
			return
		}
		switch c := r.s[r.at]; {
		case c <= maxFixUint || c == codeNil:
			r.at++
		case c&^maxFixArray == codeFixArray:
			r.at++
			open += r.elements(int(c & maxFixArray))
		case c&^maxFixStr == codeFixStr:
			r.take(1, int(c&maxFixStr))
		case c >= codeUint8 && c <= codeUint64:
			r.take(1, 1<<(c-codeUint8))
		case c >= codeBin8 && c <= codeBin32:
			r.take(r.lengthed(c, codeBin8, codeBin16, codeBin32))
		case c >= codeStr8 && c <= codeStr32:
			r.take(r.lengthed(c, codeStr8, codeStr16, codeStr32))
		case c == codeArray16 || c == codeArray32:
			head, n := r.lengthed(c, codeUnused, codeArray16, codeArray32)
			r.take(head, 0)
			open += r.elements(n)
		default:
			r.Fail("0x%02x starts no value", c)
		}
	}
}

// lengthed is header of a value that Skip passes over; a length that is cut off is a failure.
func (r *Reader) lengthed(c, c8, c16, c32 byte) (head, n int) {
	head, n, _ = r.header(c, c8, c16, c32)
	if head == 0 {
		r.Fail("a length is cut off")
	}
	return head, n
}

// elements is n if so many elements, of a byte each at least, can follow.
func (r *Reader) elements(n int) int {
	if n > len(r.s)-r.at {
		r.Fail("an array of %d elements with %d bytes left", n, len(r.s)-r.at)
		return 0
	}
	return n
}

// header reads a length that follows lead byte c, which is one of three that say its width (codeUnused: there
// is none of that width). It returns the
// header's size, 0 if c is none of them or the length is cut off, the length, and the least length for
// which this width is the shortest.
func (r *Reader) header(c, c8, c16, c32 byte) (head, n, least int) {
	rest := r.s[r.at+1:]
	switch {
	case c == codeUnused:
		return 0, 0, 0
	case c == c8 && len(rest) >= 1:
		return 2, int(rest[0]), 0
	case c == c16 && len(rest) >= 2:
		if c8 != codeUnused {
			least = math.MaxUint8 + 1
		}
		return 3, int(rest[0])<<8 | int(rest[1]), least
	case c == c32 && len(rest) >= 4:
		return 5, int(be32(rest)), math.MaxUint16 + 1
	}
	return 0, 0, 0
}

// take returns the n bytes behind a header of head bytes.
func (r *Reader) take(head, n int) string {
	if n > len(r.s)-r.at-head {
		r.Fail("%d bytes are claimed and %d are left", n, len(r.s)-r.at-head)
		return ""
	}
	s := r.s[r.at+head : r.at+head+n]
	r.at += head + n
	return s
}

func be32(s string) uint32 {
	_ = s[3]
	return uint32(s[0])<<24 | uint32(s[1])<<16 | uint32(s[2])<<8 | uint32(s[3])
}

func be64(s string) uint64 {
	_ = s[7]
	return uint64(s[0])<<56 | uint64(s[1])<<48 | uint64(s[2])<<40 | uint64(s[3])<<32 |
		uint64(s[4])<<24 | uint64(s[5])<<16 | uint64(s[6])<<8 | uint64(s[7])
}
