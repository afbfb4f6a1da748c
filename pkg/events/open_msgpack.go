package events

import (
	"bytes"
	"io"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// readMsgpack reads one flat MessagePack map, however its values are encoded. It uses the library's
// low-level calls alone and checks every length against the bytes that are left before anything is
// allocated: the library's own cap on allocation is never enforced.
func readMsgpack(data []byte) (fields, error) {
	var f fields
	in := bytes.NewReader(data)
	d := msgpack.NewDecoder(in) // reads from in directly, so in.Len() is what is left
	n, err := d.DecodeMapLen()
	if err != nil {
		return f, refuseMsgpack(err)
	}
	if n < 0 || n > MaxOpenFields {
		return f, refuse(Malformed, "", "a map of %d fields; an event has at most %d", n, MaxOpenFields)
	}
	for range n {
		name, form, err := readScalar(d, in)
		if err != nil {
			return f, err
		}
		if form != formText {
			return f, refuse(Malformed, "", "a field's name is not a text")
		}
		value, form, err := readScalar(d, in)
		if err != nil {
			return f, err
		}
		if err := f.add(name, value, form); err != nil {
			return f, err
		}
	}
	if in.Len() > 0 {
		return f, refuse(Malformed, "", "%d bytes follow the map; a message is one event", in.Len())
	}
	return f, nil
}

// readScalar reads a text, bytes, a number, as its shortest decimal, nil or a boolean.
func readScalar(d *msgpack.Decoder, in *bytes.Reader) (string, form, error) {
	c, err := d.PeekCode()
	if err != nil {
		return "", 0, refuseMsgpack(err)
	}
	switch {
	case msgpcode.IsFixedString(c), c == msgpcode.Str8, c == msgpcode.Str16, c == msgpcode.Str32:
		text, err := readLong(d, in)
		if err == nil && !utf8.ValidString(text) {
			err = refuse(InvalidID, "", "%s is not valid UTF-8", quote(text))
		}
		return text, formText, err
	case c == msgpcode.Bin8, c == msgpcode.Bin16, c == msgpcode.Bin32:
		bytes, err := readLong(d, in)
		return bytes, formBytes, err
	case c <= msgpcode.PosFixedNumHigh, c == msgpcode.Uint8, c == msgpcode.Uint16, c == msgpcode.Uint32, c == msgpcode.Uint64:
		n, err := d.DecodeUint64()
		return strconv.FormatUint(n, 10), formNumber, refuseMsgpack(err)
	case c >= msgpcode.NegFixedNumLow, c == msgpcode.Int8, c == msgpcode.Int16, c == msgpcode.Int32, c == msgpcode.Int64:
		n, err := d.DecodeInt64()
		return strconv.FormatInt(n, 10), formNumber, refuseMsgpack(err)
	case c == msgpcode.Float:
		v, err := d.DecodeFloat32()
		return formatFloat(float64(v), 32), formNumber, refuseMsgpack(err)
	case c == msgpcode.Double:
		v, err := d.DecodeFloat64()
		return formatFloat(v, 64), formNumber, refuseMsgpack(err)
	case c == msgpcode.Nil:
		return "null", formNil, refuseMsgpack(d.DecodeNil())
	case c == msgpcode.True, c == msgpcode.False:
		v, err := d.DecodeBool()
		return strconv.FormatBool(v), formOther, refuseMsgpack(err)
	}
	return "", 0, refuse(Malformed, "", "a value of type 0x%02x; fields are texts, numbers and byte strings", c)
}

// readLong reads a text or a byte string that is known to be next.
func readLong(d *msgpack.Decoder, in *bytes.Reader) (string, error) {
	n, err := d.DecodeBytesLen()
	if err != nil {
		return "", refuseMsgpack(err)
	}
	if n > in.Len() {
		return "", refuse(Malformed, "", "a value claims %d bytes and %d are left", n, in.Len())
	}
	b := make([]byte, n)
	if err := d.ReadFull(b); err != nil {
		return "", refuseMsgpack(err)
	}
	return string(b), nil
}

// formatFloat returns the whole number that v is, exactly, or else the shortest decimal that reads as v,
// which is what its sender meant. What is not finite is no decimal and is refused where it is read.
func formatFloat(v float64, bits int) string {
	if v == math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', 0, bits)
	}
	return strconv.FormatFloat(v, 'g', -1, bits)
}

func refuseMsgpack(err error) error {
	switch err {
	case nil:
		return nil
	case io.EOF, io.ErrUnexpectedEOF:
		return refuse(Malformed, "", "the MessagePack ends too early")
	}
	return refuse(Malformed, "", "not MessagePack: %v", err)
}
