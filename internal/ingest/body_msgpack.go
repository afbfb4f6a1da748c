package ingest

import (
	"encoding/binary"
	"net/http"

	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"github.com/city-chain/holdfast/pkg/events"
)

// splitMsgpack splits one MessagePack map, an array of maps, or maps one after the other. It only measures the values, which
// are flat maps of scalars; reading them is for pkg/events.
func splitMsgpack(body []byte, into *itemList) *problem {
	if len(body) == 0 {
		return refuseRequest(http.StatusBadRequest, "the body is empty")
	}
	left, count := body, -1 // -1: as many as there are
	if n, size, ok := arrayHeader(body); ok {
		if n > uint64(into.most) {
			return tooMany(into.most)
		}
		left, count = body[size:], int(n)
	}
	for len(into.items) != count && (len(left) > 0 || count >= 0) {
		size, wrong := mapSize(left)
		if wrong != "" {
			return refuseRequest(http.StatusBadRequest, "not MessagePack events: event %d, at byte %d of the body: %s; nothing of it was taken",
				len(into.items), len(body)-len(left)+1, wrong)
		}
		if p := into.add(item{data: left[:size]}); p != nil {
			return p
		}
		left = left[size:]
	}
	if len(left) > 0 {
		return refuseRequest(http.StatusBadRequest, "%d bytes follow the MessagePack array; nothing of the body was taken", len(left))
	}
	return nil
}

// arrayHeader reads the header of an array, if that is what b starts with.
func arrayHeader(b []byte) (n uint64, size int, ok bool) {
	switch c := b[0]; {
	case msgpcode.IsFixedArray(c):
		return uint64(c & msgpcode.FixedArrayMask), 1, true
	case c == msgpcode.Array16:
		n, ok = bigEndian(b[1:], 2)
		return n, 3, ok
	case c == msgpcode.Array32:
		n, ok = bigEndian(b[1:], 4)
		return n, 5, ok
	}
	return 0, 0, false
}

const endsEarly = "it ends too early"

// mapSize returns how many bytes the map takes that b starts with, or what is wrong with it.
func mapSize(b []byte) (size int, wrong string) {
	if len(b) == 0 {
		return 0, endsEarly
	}
	fields, ok := uint64(0), true
	switch c := b[0]; {
	case msgpcode.IsFixedMap(c):
		fields, size = uint64(c&msgpcode.FixedMapMask), 1
	case c == msgpcode.Map16:
		fields, ok = bigEndian(b[1:], 2)
		size = 3
	case c == msgpcode.Map32:
		fields, ok = bigEndian(b[1:], 4)
		size = 5
	default:
		return 0, "an event is a map"
	}
	switch {
	case !ok:
		return 0, endsEarly
	case fields > events.MaxOpenFields:
		return 0, "a map of too many fields"
	}
	for range 2 * fields {
		n, wrong := scalarSize(b[size:])
		if wrong != "" {
			return 0, wrong
		}
		size += n
	}
	return size, ""
}

// scalarSize returns how many bytes the scalar takes that b starts with, or what is wrong with it.
func scalarSize(b []byte) (size int, wrong string) {
	if len(b) == 0 {
		return 0, endsEarly
	}
	n := uint64(1)
	switch c := b[0]; {
	case c <= msgpcode.PosFixedNumHigh, c >= msgpcode.NegFixedNumLow, c == msgpcode.Nil, c == msgpcode.True, c == msgpcode.False:
	case msgpcode.IsFixedString(c):
		n = 1 + uint64(c&msgpcode.FixedStrMask)
	case c == msgpcode.Uint8, c == msgpcode.Int8:
		n = 2
	case c == msgpcode.Uint16, c == msgpcode.Int16:
		n = 3
	case c == msgpcode.Uint32, c == msgpcode.Int32, c == msgpcode.Float:
		n = 5
	case c == msgpcode.Uint64, c == msgpcode.Int64, c == msgpcode.Double:
		n = 9
	case c == msgpcode.Str8, c == msgpcode.Bin8:
		return textSize(b, 1)
	case c == msgpcode.Str16, c == msgpcode.Bin16:
		return textSize(b, 2)
	case c == msgpcode.Str32, c == msgpcode.Bin32:
		return textSize(b, 4)
	default:
		return 0, "a field that is neither a text nor a number"
	}
	if n > uint64(len(b)) {
		return 0, endsEarly
	}
	return int(n), ""
}

// textSize is scalarSize for a text whose length stands in so many bytes.
func textSize(b []byte, width int) (size int, wrong string) {
	n, ok := bigEndian(b[1:], width)
	if !ok || n > uint64(len(b)-1-width) {
		return 0, endsEarly
	}
	return 1 + width + int(n), ""
}

// bigEndian reads a number of so many bytes.
func bigEndian(b []byte, width int) (n uint64, ok bool) {
	if len(b) < width {
		return 0, false
	}
	var buf [8]byte
	copy(buf[8-width:], b[:width])
	return binary.BigEndian.Uint64(buf[:]), true
}
