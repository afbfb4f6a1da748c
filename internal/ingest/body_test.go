package ingest

import (
	"bytes"
	"testing"

	"github.com/city-chain/holdfast/pkg/events"
)

// Whatever a splitter makes of a body, its items are parts of it, in order, and no more than allowed; and pkg/events takes
// them or refuses them.
func checkItems(t *testing.T, body []byte, items []item, most int) {
	t.Helper()
	if len(items) > most {
		t.Fatalf("%d items, and %d are allowed", len(items), most)
	}
	rest := body
	for i, it := range items {
		at := bytes.Index(rest, it.data)
		if at < 0 || len(it.data) == 0 {
			t.Fatalf("item %d, %q, is not in the rest of the body, %q", i, it.data, rest)
		}
		rest = rest[at+len(it.data):]
		if it.err == nil {
			_, _ = events.DecodeOpenHold(it.data, events.KindHold)
		}
	}
}

// plenty is a share of a budget that will do.
func plenty() *share {
	b := &budget{}
	b.left.Store(1 << 20)
	return &share{budget: b}
}

func FuzzSplitJSON(f *testing.F) {
	for _, seed := range []string{"", "{}", "[]", "[{}, {}]", "{}\n{}\n", "{\"a\":\n1}", "[{}", "[1 2]", "{}{}", "\xef\xbb\xbf{}", "[[[[", "{}\r\n\r\nx", "[{},]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, split := range []splitter{splitJSON, splitLines} {
			found := itemList{most: 8, memory: plenty()}
			p := split(body, &found)
			if p == nil {
				checkItems(t, body, found.items, 8)
			} else if p.status != 400 && p.status != 413 {
				t.Errorf("status %d", p.status)
			}
		}
	})
}

func FuzzSplitMsgpack(f *testing.F) {
	for _, seed := range []string{
		"", "\x80", "\x81\xa1a\x01", "\x92\x80\x80", "\x80\x80", "\xdc\x00\x01\x80", "\xdd\xff\xff\xff\xff", "\xde\x00\x01\xa1a\xcb00000000",
		"\xdf\x00\x00\x00\x01\xd9\x01a\xc4\x01b", "\x81\xa1a\x91\x01", "\x81\xda\xff\xff", "\xc1",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		found := itemList{most: 8, memory: plenty()}
		if p := splitMsgpack(body, &found); p != nil {
			return
		}
		items := found.items
		checkItems(t, body, items, 8)
		var total int
		for _, it := range items {
			total += len(it.data)
		}
		header := 0
		if _, size, ok := arrayHeader(body); ok {
			header = size
		}
		if header+total != len(body) {
			t.Errorf("%d bytes of items and %d of header in a body of %d", total, header, len(body))
		}
	})
}
