// Package wire writes and reads canonical MessagePack: the subset of the format that Holdfast's own
// batches, slots and checkpoints are made of.
//
// Every value has exactly one encoding here, the shortest, and the [Reader] accepts no other. So decoding
// bytes and encoding the result gives the same bytes again, and equal states have equal digests. The subset
// is: nil, unsigned integers up to 64 bits, strings, byte strings and arrays. There are no maps, floats,
// negative numbers or extensions.
//
// The format is specified at https://github.com/msgpack/msgpack/blob/master/spec.md. Bytes from other
// encoders, which may choose longer forms, are read elsewhere with a general library.
package wire

import (
	"encoding/binary"
	"math"
)

// The lead bytes of the format that are in the subset.
const (
	codeFixArray = 0x90
	codeFixStr   = 0xa0
	codeNil      = 0xc0
	codeUnused   = 0xc1 // never starts a value
	codeBin8     = 0xc4
	codeBin16    = 0xc5
	codeBin32    = 0xc6
	codeUint8    = 0xcc
	codeUint16   = 0xcd
	codeUint32   = 0xce
	codeUint64   = 0xcf
	codeStr8     = 0xd9
	codeStr16    = 0xda
	codeStr32    = 0xdb
	codeArray16  = 0xdc
	codeArray32  = 0xdd

	maxFixUint  = 0x7f
	maxFixArray = 0x0f
	maxFixStr   = 0x1f
)

// AppendNil appends nil.
func AppendNil(b []byte) []byte { return append(b, codeNil) }

// AppendUint appends v in its shortest form, 1 to 9 bytes.
func AppendUint(b []byte, v uint64) []byte {
	switch {
	case v <= maxFixUint:
		return append(b, byte(v))
	case v <= math.MaxUint8:
		return append(b, codeUint8, byte(v))
	case v <= math.MaxUint16:
		return append(b, codeUint16, byte(v>>8), byte(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, codeUint32), uint32(v))
	default:
		return binary.BigEndian.AppendUint64(append(b, codeUint64), v)
	}
}

// AppendString appends s as a string. It panics if s is longer than 2³²−1 bytes.
func AppendString(b []byte, s string) []byte {
	switch n := length(len(s)); {
	case n <= maxFixStr:
		b = append(b, codeFixStr|byte(n))
	case n <= math.MaxUint8:
		b = append(b, codeStr8, byte(n))
	case n <= math.MaxUint16:
		b = append(b, codeStr16, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, codeStr32), n)
	}
	return append(b, s...)
}

// AppendBytes appends p as a byte string. It panics if p is longer than 2³²−1 bytes.
func AppendBytes[B []byte | string](b []byte, p B) []byte {
	switch n := length(len(p)); {
	case n <= math.MaxUint8:
		b = append(b, codeBin8, byte(n))
	case n <= math.MaxUint16:
		b = append(b, codeBin16, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, codeBin32), n)
	}
	return append(b, p...)
}

// AppendArray appends the header of an array; its n elements follow. It panics if n is negative or over 2³²−1.
func AppendArray(b []byte, n int) []byte {
	switch n := length(n); {
	case n <= maxFixArray:
		return append(b, codeFixArray|byte(n))
	case n <= math.MaxUint16:
		return append(b, codeArray16, byte(n>>8), byte(n))
	default:
		return binary.BigEndian.AppendUint32(append(b, codeArray32), n)
	}
}

// length is n as the format counts lengths.
func length(n int) uint32 {
	if n < 0 || uint64(n) > math.MaxUint32 {
		panic("wire: a length outside of what the format can say")
	}
	return uint32(n)
}
