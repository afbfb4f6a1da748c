package check

import (
	"encoding/binary"
	"errors"
)

// errLengths says that a value says of itself that it is longer than it is, or that it has what no stored value has.
var errLengths = errors.New("not in its format: a length that goes beyond its end, or a form that it does not have")

// checkLengths walks through a value of MessagePack and holds each length against the bytes that are left. The library makes room
// for what a length says before it reads: a few bytes could ask for all memory.
func checkLengths(b []byte) error {
	values := 1 // still to come
	for ; values > 0; values-- {
		if len(b) < values { // each takes a byte at least
			return errLengths
		}
		code := b[0]
		b = b[1:]
		size, width, isArray := 0, 0, false
		switch {
		case code < 0x80, code >= 0xe0, code == 0xc0: // a small integer, or nil
		case code >= 0x90 && code <= 0x9f:
			size, isArray = int(code&0x0f), true
		case code >= 0xa0 && code <= 0xbf:
			size = int(code & 0x1f)
		case code >= 0xcc && code <= 0xd3: // integers of 1, 2, 4 and 8 bytes, without a sign and with one
			size = 1 << (code & 3)
		case code >= 0xc4 && code <= 0xc6: // bytes
			width = 1 << (code - 0xc4)
		case code >= 0xd9 && code <= 0xdb: // texts
			width = 1 << (code - 0xd9)
		case code == 0xdc, code == 0xdd:
			width, isArray = 2<<(code-0xdc), true
		default:
			return errLengths
		}
		if len(b) < width {
			return errLengths
		}
		switch width {
		case 1:
			size = int(b[0])
		case 2:
			size = int(binary.BigEndian.Uint16(b))
		case 4:
			size = int(binary.BigEndian.Uint32(b))
		}
		b = b[width:]
		if size > len(b) {
			return errLengths
		}
		if isArray {
			values += size
		} else {
			b = b[size:]
		}
	}
	return nil
}
