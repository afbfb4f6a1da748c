package page

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/city-chain/holdfast/pkg/events"
)

// hostile are ids that a document, an address or an order could trip over.
var hostile = []string{
	`<script>window.pwned = 1</script>`, `<img src=x onerror="window.pwned = 1">`, `"><b>bold`, `'";alert(1)//`, `javascript:window.pwned=1`, `&amp;<br>`, `{{script}}`, `${window.pwned = 1}`,
	".", "..", "/", "a/b", "../top", "?id=1", "#holder=x", "%2e", "%", "a b", "a+b", "a&n=100", " blank ", "line\nbreak", "nul\x00", "\x7f\t\r",
	"\u202egnp.exe", "\u2066isolate", "\u200bzero", "\u2028", "שלום", "名前", "🦊", "\ufb01", "\uff5a", "\U0001F98A\ufe0f", "constructor", "__proto__", strings.Repeat("x", events.MaxID), strings.Repeat("名", events.MaxID/3),
}

// shown are some ids as the page is to show them.
var shown = map[string]string{"line\nbreak": "line␊break", "\u202egnp.exe": "‹U+202E›gnp.exe", " blank ": "␣blank␣", "nul\x00": "nul␀", "\u2028": "‹U+2028›"}

func TestHostileIDs(t *testing.T) {
	needsBrowser(t)
	var ids []string
	for _, id := range hostile {
		if e := hold(id, time.Hour, one); e.Validate() == nil { // such as are not in NFC are no ids
			ids = append(ids, id)
		}
	}
	if len(ids) < 30 {
		t.Fatalf("only %d of the ids are ids", len(ids))
	}
	w := newWorld(t)
	start := events.Time(time.Now().Add(-time.Hour).UnixMilli())
	var list []events.HoldEvent
	for _, id := range ids { // all of the same score, so their order is that of their bytes
		list = append(list, events.HoldEvent{Kind: events.KindHold, Token: id, Holder: id, Start: start, End: events.Open, Weight: events.Weight{Lo: one}})
	}
	w.put(list...)
	w.putPoH(events.PoHEvent{Kind: events.KindHTTP, Node: "n", Method: "GET", Route: `<script>window.pwned = 1</script>`, Status: 200})

	b := open(t, 360, 740, w.url()+"#n=50")
	b.state("Live")
	until(t, "all ids are shown", func() bool { return len(b.texts("#ranking bdi")) == len(ids) })
	slices.Sort(ids)
	got := b.texts("#ranking bdi")
	for i, id := range ids {
		if want, ok := shown[id]; ok && got[i] != want {
			t.Errorf("%q is shown as %q, want %q", id, got[i], want)
		}
		if plain := !strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x2000 && r < 0x2100 }) && strings.Trim(id, " ") == id && !strings.Contains(id, "\ufe0f"); plain && got[i] != id {
			t.Errorf("%q is shown as %q", id, got[i])
		}
	}
	for i, id := range ids {
		b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf(`document.querySelectorAll("#ranking tbody a")[%d].click()`, i)))
		until(t, "the holder is shown", func() bool { return b.text("#holder .digits") != "" && b.text("#holder-title bdi") == got[i] })
		if said := b.text("#holder-said"); said != "" {
			t.Errorf("of %q it is said: %s", id, said)
		}
		// The address names it: whoever follows it sees the same.
		if back := eval[string](b, `new URLSearchParams(location.hash.slice(1)).get("holder")`); back != id {
			t.Errorf("the address of %q names %q", id, back)
		}
	}
	b.narrow()
	if eval[bool](b, `"pwned" in window || document.querySelector("main script, main img, main b") !== null`) {
		t.Error("an id has become a part of the document")
	}
	b.quiet()
}

// A script that came into the document all the same would not be run.
func TestNothingElseRuns(t *testing.T) {
	needsBrowser(t)
	w := newWorld(t)
	b := open(t, 800, 600, w.url())
	b.state("Live")
	for what, try := range map[string]string{
		"a script in HTML":  `document.body.innerHTML += "<img src=x onerror='window.pwned=1'>"`,
		"text as a script":  `document.body.append(Object.assign(document.createElement("script"), { textContent: "window.pwned = 1" }))`,
		"a timer of text":   `setTimeout("window.pwned = 1", 0)`,
		"a script's source": `document.body.append(Object.assign(document.createElement("script"), { src: "/top" }))`,
	} {
		if got := eval[string](b, `(() => { try { `+try+`; return "done" } catch (e) { return e.name } })()`); got != "TypeError" {
			t.Errorf("%s: %s", what, got)
		}
	}
	if eval[bool](b, `"pwned" in window`) {
		t.Error("it ran")
	}
}

func TestSearch(t *testing.T) {
	needsBrowser(t)
	w := newWorld(t)
	w.put(hold("alice", time.Hour, one), hold("Bob the builder", 2*time.Hour, one))
	b := open(t, 1280, 1000, w.url())
	b.state("Live")
	search := func(id string) {
		b.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("#search-id").value = ""`),
			chromedp.SendKeys(chromedp.CSS("#search-id"), id+kb.Enter))
	}
	search("Bob the builder")
	until(t, "Bob is shown", func() bool {
		return b.text("#holder-title") == "Bob the builder" && b.text("#holder .facts dd") == "1 of 2"
	})
	if hash := eval[string](b, `location.hash`); hash != "#holder=Bob+the+builder" {
		t.Errorf("the address is %s", hash)
	}
	if focused := eval[string](b, `document.activeElement.id`); focused != "holder-title" {
		t.Errorf("the focus is on %q", focused)
	}
	search("bob")
	until(t, "nobody is found", func() bool { return strings.Contains(b.text("#holder-said"), "no holder of exactly this id") })
	if b.text("#holder .digits") != "" {
		t.Error("the score of another is still shown")
	}
	b.do(chromedp.NavigateBack())
	until(t, "Bob is shown again", func() bool { return b.text("#holder .facts dd") == "1 of 2" })
	search("")
	until(t, "an empty search is answered", func() bool { return strings.Contains(b.text("#search-said"), "Write the id") })
	b.do(chromedp.Navigate(w.url() + "?again#holder=alice"))
	until(t, "an address that somebody has passed on shows alice", func() bool { return b.text("#holder .facts dd") == "2 of 2" })

	// An instant that is not known any more is refused, and the page goes on.
	b.do(chromedp.Navigate(w.url() + "?more#at=yesterday"))
	until(t, "a broken instant is named", func() bool { return strings.Contains(b.text("#choice-said"), "RFC 3339") })
	b.quiet("404", "400")
}
