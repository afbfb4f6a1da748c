package archive

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// What parseRecord accepts is what appendRecord writes, and nothing else.
func FuzzRecord(f *testing.F) {
	seeds := 0
	for sequence := range uint64(4) {
		m := testMessage(sequence)
		f.Add(appendRecord(nil, &m)[lengthBytes:])
		seeds++
	}
	f.Add([]byte{0x95, 0x01, 0x01, 0xc4, 0x00, 0xdd, 0xff, 0xff, 0xff, 0xff}) // headers without end
	f.Add([]byte{0x95, 0x01, 0x01, 0xc6, 0xff, 0xff, 0xff, 0xff})             // a subject without end
	if seeds == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseRecord(b)
		if err != nil {
			return
		}
		if again := appendRecord(nil, &m)[lengthBytes:]; !bytes.Equal(again, b) {
			t.Errorf("%x is read as %+v, which is written %x", b, m, again)
		}
	})
}

// A manifest that is accepted is one as it is written.
func FuzzManifest(f *testing.F) {
	m := testManifest("HOLDS")
	f.Add(m.encode())
	f.Add([]byte(`{"format":"holdfast archive","version":1,"stream":"HOLDS","created":1,"policy":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseManifest(b)
		if err == nil && !bytes.Equal(m.encode(), b) {
			t.Errorf("%s is accepted", b)
		}
	})
}

// Whoever writes a segment can make its digest right; what is in it is still read without harm, and to its end: by its first and last bytes, and then its frame.
func FuzzSegment(f *testing.F) {
	dir := f.TempDir()
	write(f, dir, testManifest("HOLDS"), 6, 3)
	for _, path := range segmentFiles(f, dir, "HOLDS") {
		b, err := os.ReadFile(path)
		must(f, err)
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		const first, last = 1, 3
		s, err := parseSegment(filepath.Join("HOLDS", segmentName(first, last)), bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		header := len(s.header())
		r, err := newSegmentReader(&s, bytes.NewReader(b[header:len(b)-footerBytes]))
		if err != nil {
			return
		}
		defer r.close()
		n := uint64(0)
		for {
			m, err := r.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return
			}
			if n++; m.Sequence != s.first+n-1 {
				t.Fatalf("message %d is number %d of those from %d on", m.Sequence, n, s.first)
			}
		}
		if n != s.last-s.first+1 {
			t.Errorf("%d messages of %d to %d", n, s.first, s.last)
		}
	})
}
