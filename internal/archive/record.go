package archive

import (
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/wire"
)

const (
	// lengthBytes is what stands before a message: its length.
	lengthBytes = 4
	// maxRecord bounds a message in an archive. A stream takes up to jetstream.MaxMessage, headers included; a header of one letter with an
	// empty value takes 4 bytes there and 7 here, and the subject, which is not counted there, is far shorter than what is left.
	maxRecord = 2 * jetstream.MaxMessage

	recordParts = 5
)

// appendRecord appends a message, its length before it.
func appendRecord(b []byte, m *jetstream.Message) []byte {
	begin := len(b)
	b = append(b, make([]byte, lengthBytes)...)
	b = wire.AppendArray(b, recordParts)
	b = wire.AppendUint(b, m.Sequence)
	b = wire.AppendUint(b, uint64(m.Time.UnixNano()))
	b = wire.AppendBytes(b, m.Subject)
	b = wire.AppendArray(b, len(m.Header))
	for _, name := range slices.Sorted(maps.Keys(m.Header)) {
		b = wire.AppendBytes(wire.AppendArray(b, 2), name)
		b = wire.AppendArray(b, len(m.Header[name]))
		for _, value := range m.Header[name] {
			b = wire.AppendBytes(b, value)
		}
	}
	b = wire.AppendBytes(b, m.Data)
	binary.BigEndian.PutUint32(b[begin:], uint32(len(b)-begin-lengthBytes))
	return b
}

// parseRecord reads a message, without the length before it. It accepts only what appendRecord would write. Nothing is shared with b.
func parseRecord(b []byte) (jetstream.Message, error) {
	r := wire.NewReader(string(b))
	if n := r.Array(); n != recordParts {
		r.Fail("a message of %d parts; it has %d", n, recordParts)
	}
	m := jetstream.Message{Sequence: r.Uint(), Time: time.Unix(0, int64(r.UintMax(math.MaxInt64))).UTC(), Subject: r.Bytes()}
	previous := ""
	for i := range r.Array() {
		if n := r.Array(); n != 2 {
			r.Fail("a header of %d parts; it has 2", n)
		}
		name := r.Bytes()
		if i > 0 && name <= previous {
			r.Fail("header %q behind %q", name, previous)
		}
		previous = name
		values := make([]string, 0, 1)
		for range r.Array() {
			values = append(values, r.Bytes())
		}
		if r.Err() != nil {
			break
		}
		if m.Header == nil {
			m.Header = jetstream.Header{}
		}
		m.Header[name] = values
	}
	m.Data = []byte(r.Bytes())
	return m, r.Close()
}

// same tells whether two messages are the same, wherever they come from.
func same(a, b *jetstream.Message) bool {
	return string(appendRecord(nil, a)) == string(appendRecord(nil, b))
}
