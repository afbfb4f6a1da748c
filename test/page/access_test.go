package page

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// narrow fails the test if the page can be scrolled sideways.
func (b *tab) narrow() {
	b.t.Helper()
	if over := eval[[]string](b, `(() => {
		if (document.documentElement.scrollWidth <= innerWidth) return [];
		return [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, .hidden")).map(e => e.outerHTML.slice(0, 80));
	})()`); len(over) > 0 || eval[bool](b, `document.documentElement.scrollWidth > innerWidth`) {
		b.t.Errorf("the page is wider than the window: %q", over)
	}
}

// prefers makes the browser say that its reader prefers something.
func prefers(feature, value string) chromedp.Action[chromedp.Void] {
	return func(ctx context.Context, t *chromedp.Target) (chromedp.Void, error) {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: feature, Value: value}}})
		return chromedp.Void{}, err
	}
}

// Texts have the contrast that WCAG asks for at level AA, and a phone shows everything without being moved sideways.
func TestReadable(t *testing.T) {
	needsBrowser(t)
	w := newWorld(t)
	demonstrate(w)
	w.put(hold(strings.Repeat("long-", 20), 100*24*time.Hour, 1_000_000_000*one))
	for _, scheme := range []string{"light", "dark"} {
		b := open(t, 360, 740, w.url()+"#holder="+strings.Repeat("long-", 20), prefers("prefers-color-scheme", scheme))
		b.state("Live")
		until(t, "the holder is shown", func() bool { return b.text("#holder .digits") != "" })
		b.narrow()
		if wrong := eval[[]string](b, contrasts); len(wrong) > 0 {
			t.Errorf("%s: too little contrast: %q", scheme, wrong)
		}
		b.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("#theme").value = "`+map[string]string{"light": "dark", "dark": "light"}[scheme]+`", document.querySelector("#theme").dispatchEvent(new Event("change"))`),
			chromedp.Navigate(w.url()+"?again"))
		b.state("Live")
		ground := eval[string](b, `getComputedStyle(document.body).backgroundColor`)
		if dark := ground == "rgb(17, 21, 20)"; dark != (scheme == "light") {
			t.Errorf("where %s is preferred and the other chosen, the ground is %s", scheme, ground)
		}
		b.quiet()
	}
}

// contrasts are the texts whose contrast is too little.
const contrasts = `(() => {
	const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
	const rgb = colours => { canvas.clearRect(0, 0, 1, 1); for (const c of colours) { canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); } return canvas.getImageData(0, 0, 1, 1).data; };
	const light = d => [0.2126, 0.7152, 0.0722].reduce((sum, k, i) => { const v = d[i] / 255; return sum + k * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); }, 0);
	const wrong = [];
	for (const e of document.querySelectorAll("body *")) {
		if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility() || e.closest(".hidden, noscript, option")) continue;
		const grounds = [];
		for (let p = e; p; p = p.parentElement) grounds.unshift(getComputedStyle(p).backgroundColor);
		const style = getComputedStyle(e), ink = e.closest("svg") ? style.fill : style.color;
		const [a, b] = [light(rgb([...grounds, ink])), light(rgb(grounds))].sort((x, y) => y - x);
		if ((a + 0.05) / (b + 0.05) < 4.5) wrong.push(e.outerHTML.slice(0, 60) + " " + ((a + 0.05) / (b + 0.05)).toFixed(2));
	}
	return wrong;
})()`

// Everything can be reached, seen and used by keyboard alone.
func TestKeyboard(t *testing.T) {
	needsBrowser(t)
	w := newWorld(t)
	w.put(hold("a", time.Hour, one), hold("b", 2*time.Hour, one))
	b := open(t, 1280, 1000, w.url())
	b.state("Live")
	until(t, "the rows are there", func() bool { return len(b.texts("#ranking bdi")) == 2 })
	var stops []string
	for range 30 {
		b.do(chromedp.KeyEvent(kb.Tab))
		stop := eval[string](b, `(() => { const e = document.activeElement; if (e === document.body) return "";
			const s = getComputedStyle(e); return (e.id || e.textContent) + (s.outlineStyle === "none" ? " WITHOUT OUTLINE" : ""); })()`)
		if stop == "" || slices.Contains(stops, stop) && stop != "choice-at" {
			break
		}
		stops = append(stops, stop)
	}
	stops = slices.Compact(stops) // a field for an instant has many parts
	want := "skip search-id Find theme choice-n choice-at choice-now b a All paths /stats /top /pipeline /metrics shortcuts"
	if got := strings.Join(stops, " "); got != want {
		t.Errorf("by Tab one comes to\n%s\nwant\n%s", got, want)
	}

	b.do(chromedp.Navigate(w.url()+"?again"), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	until(t, "the skip link leads to the ranking", func() bool { return eval[string](b, `document.activeElement.id`) == "ranking" })
	b.state("Live")
	b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	until(t, "Enter opens the holder", func() bool { return b.text("#holder-title") == "b" && b.text("#holder .digits") != "" })
	b.do(chromedp.KeyEvent(kb.Escape))
	until(t, "Escape closes it", func() bool { return eval[bool](b, `document.querySelector("#holder").hidden`) })
	// As a keyboard does it, which types nothing where the page has taken the key.
	call(b, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: "/", Code: "Slash", Text: "/"})
	b.do(chromedp.KeyEvent("a"), chromedp.KeyEvent(kb.Enter))
	until(t, "/ leads to the search", func() bool { return b.text("#holder-title") == "a" })
	b.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("#shortcuts").click(), document.activeElement.blur()`), chromedp.KeyEvent(kb.Escape))
	if eval[bool](b, `document.querySelector("#holder").hidden`) {
		t.Error("shortcuts that were switched off work")
	}
	b.quiet()
}

// A row that is focused keeps the focus when it moves, and nothing slides before eyes that want it still.
func TestMovingRows(t *testing.T) {
	needsBrowser(t)
	w := newWorld(t)
	w.put(hold("first", time.Hour, one), hold("second", time.Minute, one))
	b := open(t, 1280, 1000, w.url(), prefers("prefers-reduced-motion", "reduce"))
	b.state("Live")
	until(t, "the rows are there", func() bool { return len(b.texts("#ranking bdi")) == 2 })
	eval[bool](b, `window.moved = 0, Element.prototype.animate = () => { window.moved++; return {}; }, document.querySelectorAll("#ranking tbody a")[1].focus(), true`)
	w.put(hold("second", 2*time.Hour, one))
	until(t, "the second is first", func() bool { return b.text("#ranking bdi") == "second" })
	if focused := eval[string](b, `document.activeElement.textContent`); focused != "second" {
		t.Errorf("the focus is on %q", focused)
	}
	if eval[int](b, `window.moved`) != 0 {
		t.Error("rows slide though its reader wants nothing to move")
	}
}

// Whoever hears the page instead of seeing it finds names, headings, tables and their headers.
func TestAccessibilityTree(t *testing.T) {
	needsBrowser(t)
	w := newWorld(t)
	demonstrate(w)
	b := open(t, 1280, 1000, w.url()+"#holder=mill-relay-1")
	b.state("Live")
	until(t, "the holder is shown", func() bool { return b.text("#holder .digits") != "" })
	nodes := call(b, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{}).Nodes
	found := map[string][]string{}
	for _, n := range nodes {
		if n.Ignored || n.Role == nil {
			continue
		}
		role, name := text(n.Role), text(n.Name)
		found[role] = append(found[role], name)
		named := []string{"button", "link", "checkbox", "combobox", "searchbox", "textbox", "table", "region", "image", "heading", "columnheader", "rowheader", "DateTime", "InputTime"}
		if slices.Contains(named, role) && strings.TrimSpace(name) == "" {
			t.Errorf("a %s has no name: %v", role, n.BackendDOMNodeID)
		}
	}
	for role, want := range map[string][]string{
		"heading":   {"Holdfast", "Ranking", "mill-relay-1", "Proof of History", "Pipeline"},
		"table":     {"Holders by score, the highest first", "Neighbours", "Proofs", "Partitions", "Workers", "Holds that have not ended"},
		"searchbox": {"Holder"}, "combobox": {"Theme", "Show"}, "button": {"Find", "Now", "Close this holder"}, "link": {"Skip to the ranking"},
		"main": {""}, "search": {""}, "banner": {""}, "contentinfo": {""},
	} {
		for _, name := range want {
			if !slices.Contains(found[role], name) {
				t.Errorf("there is no %s %q, but %q", role, name, found[role])
			}
		}
	}
	if !slices.ContainsFunc(found["image"], func(name string) bool { return strings.Contains(name, "weight·seconds at") }) {
		t.Errorf("the chart is not described: %q", found["image"])
	}
	if lang := eval[string](b, `document.documentElement.lang`); lang != "en" {
		t.Errorf("the language is %q", lang)
	}
	// What changes ten times a second is announced nowhere.
	if live := eval[int](b, `[...document.querySelectorAll("[aria-live], [role=status], [role=alert]")].filter(e => e.querySelector("time, td, dd")).length`); live != 0 {
		t.Errorf("%d regions that are read out have numbers in them", live)
	}
}

// text is the value of a property of the accessibility tree.
func text(v *accessibility.Value) (s string) {
	if v != nil && json.Unmarshal(v.Value, &s) != nil {
		return fmt.Sprint(v.Value)
	}
	return s
}
