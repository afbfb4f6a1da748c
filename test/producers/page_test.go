package producers

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/pkg/events"
)

// readPage reads docs/producers.md.
func readPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(root, "docs", "producers.md"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(page), "\r\n", "\n")
}

// blocks returns the blocks of a page that are fenced with that word behind the fence.
func blocks(page, word string) (all []string) {
	inside := false
	for line := range strings.Lines(page) {
		switch fence := strings.HasPrefix(line, "```"); {
		case fence && inside:
			inside = false
		case fence && strings.TrimSpace(line) == "```"+word:
			inside = true
			all = append(all, "")
		case fence: // of another word; what closes it opens nothing
			inside = true
			all = append(all, "-")
		case inside:
			all[len(all)-1] += line
		}
	}
	var of []string
	for _, b := range all {
		if !strings.HasPrefix(b, "-") {
			of = append(of, b)
		}
	}
	return of
}

// The page lists every reason, and no other.
func TestReasonsOfThePage(t *testing.T) {
	_, table, found := strings.Cut(readPage(t), "| reason | when |\n|---|---|\n")
	table, _, ends := strings.Cut(table, "\n\n")
	if !found || !ends {
		t.Fatal("the page has no table of reasons")
	}
	got := map[string]bool{}
	for row := range strings.Lines(table) {
		for _, name := range regexp.MustCompile("`[^`]+`").FindAllString(strings.Split(row, "|")[1], -1) {
			got[strings.Trim(name, "`")] = true
		}
	}
	want := map[string]bool{}
	for r := range events.Reason(255) {
		if r.Valid() {
			want[r.String()] = true
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-pkg/events +page):\n%s", diff)
	}
}

// The page's table of ids is true.
func TestIDsOfThePage(t *testing.T) {
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\| `([^`]+)` \\| (\\d+) \\| (\\d+) \\|$").FindAllStringSubmatch(readPage(t), -1)
	if len(rows) < 5 {
		t.Fatalf("%d rows of ids", len(rows))
	}
	known := map[string]idVector{}
	for _, v := range makeVectors(t).IDs {
		known[v.ID] = v
	}
	for _, row := range rows {
		v, ok := known[row[1]]
		if want := []string{v.Encoded, strconv.FormatUint(uint64(v.FNV1a), 10), strconv.Itoa(v.Partition)}; !ok || !cmp.Equal(want, row[2:]) {
			t.Errorf("%s: %v on the page, want %v", row[1], row[2:], want)
		}
	}
}

// What the page shows byte by byte are test vectors.
func TestBytesOfThePage(t *testing.T) {
	v := makeVectors(t)
	latencies, err := base64.StdEncoding.DecodeString(summed)
	if err != nil {
		t.Fatal(err)
	}
	vectors := map[string]bool{v.Events[0].Msgpack: false, v.Envelopes[0].Msgpack: false, hex.EncodeToString(latencies): false}
	for _, block := range blocks(readPage(t), "") {
		var all string
		for line := range strings.Lines(block) {
			column, _, _ := strings.Cut(line, "  ")
			all += strings.ReplaceAll(column, " ", "")
		}
		if _, err := hex.DecodeString(all); err != nil {
			continue // no bytes
		}
		if _, ok := vectors[all]; !ok {
			t.Errorf("%s is no test vector", all)
		}
		vectors[all] = true
	}
	for vector, shown := range vectors {
		if !shown {
			t.Errorf("the page does not show %s", vector)
		}
	}
}

// The page's events are events.
func TestEventsOfThePage(t *testing.T) {
	n := 0
	for _, block := range blocks(readPage(t), "json") {
		for line := range strings.Lines(block) {
			var is struct {
				Accepted *int
				Node     string
			}
			if err := json.Unmarshal([]byte(line), &is); err != nil {
				t.Errorf("%s: %v", line, err)
			}
			var err error
			switch {
			case is.Accepted != nil:
				continue // an answer
			case is.Node != "":
				_, err = events.DecodeOpenPoH([]byte(line))
			default:
				_, err = events.DecodeOpenHold([]byte(line), 0)
			}
			if n++; err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
	if n < 8 {
		t.Errorf("%d events on the page", n)
	}
}

func TestBlocks(t *testing.T) {
	const page = "```json\n{}\n```\ntext\n```\n01  x\n```\n```sh\nls\n```\n"
	if diff := cmp.Diff([]string{"01  x\n"}, blocks(page, "")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"{}\n"}, blocks(page, "json")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The page's message of the NATS protocol is as long as it says.
func TestMessageOfThePage(t *testing.T) {
	for _, block := range blocks(readPage(t), "") {
		control, message, found := strings.Cut(block, "␍␊\n")
		if !found {
			continue
		}
		head, body, _ := strings.Cut(message, "␍␊\n␍␊\n")
		head = strings.ReplaceAll(head, "␍␊\n", "\r\n") + "\r\n\r\n"
		body = strings.TrimSuffix(body, "␍␊\n")
		if want := "HPUB poh.n1 _INBOX.1 " + strconv.Itoa(len(head)) + " " + strconv.Itoa(len(head)+len(body)); control != want {
			t.Errorf("%s, want %s", control, want)
		}
		if _, err := events.DecodeOpenPoH([]byte(body)); err != nil {
			t.Errorf("%s: %v", body, err)
		}
		return
	}
	t.Error("the page shows no message of the NATS protocol")
}
