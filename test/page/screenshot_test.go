package page

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/city-chain/holdfast/pkg/events"
)

// TestScreenshots writes docs/images, by: go test -count=1 -run Screenshots ./test/page -browser -screenshots ../../docs/images
func TestScreenshots(t *testing.T) {
	needsBrowser(t)
	if *screenshots == "" {
		t.Skip("nothing to check: this writes the screenshots of the documents, to the folder named by -screenshots")
	}
	w := newWorld(t)
	demonstrate(w)
	for _, shot := range []struct {
		name, scheme  string
		width, height int64
		scale         float64
	}{
		{"page-light", "light", 1280, 1000, 1}, {"page-dark", "dark", 1280, 1000, 1}, {"page-phone", "light", 360, 780, 2},
	} {
		b := open(t, shot.width, shot.height, w.url()+"#holder=harbour-relay-2", prefers("prefers-color-scheme", shot.scheme))
		b.do(chromedp.EmulateViewport(shot.width, shot.height, chromedp.EmulateScale(shot.scale)))
		b.state("Live")
		until(t, "rates of proofs are known", func() bool {
			w.putPoH(proofs(rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano()))), 20)...)
			return eval[bool](b, `document.querySelectorAll("#holder svg").length > 0 && !document.querySelector("#poh-body td:nth-child(3)").textContent.match(/^(–|0)$/)`)
		})
		png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(*screenshots, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(*screenshots, shot.name+".png"), png, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d bytes", shot.name, len(png))
		b.quiet()
	}
}

// demonstrate fills a world with what a small storage network might have: holders of capacity, and nodes that prove.
func demonstrate(w *world) {
	random := rand.New(rand.NewPCG(1993, 7))
	var holds []events.HoldEvent
	day := 24 * time.Hour
	for _, place := range []string{"harbour", "mill", "orchard", "quarry", "summit"} {
		for _, role := range []string{"archive", "relay", "mirror"} {
			for i := range 3 {
				id := fmt.Sprintf("%s-%s-%d", place, role, i+1)
				for range 1 + random.IntN(4) {
					began := time.Duration(random.Int64N(int64(20 * day)))
					h := hold(id, began, uint64(random.IntN(4000)+200)*one/100)
					h.Token = []string{"ssd", "tape", "bandwidth"}[random.IntN(3)]
					if random.IntN(4) == 0 {
						h.End = h.Start + events.Time((began + time.Duration(random.Int64N(int64(5*day)))).Milliseconds())
					}
					holds = append(holds, h)
				}
			}
		}
	}
	w.put(holds...)
	w.put(events.HoldEvent{Kind: events.KindRelease, Token: "none", Holder: "mill-relay-1", End: events.Time(time.Now().UnixMilli())})
	w.putPoH(proofs(random, 400)...)
}

// proofs are events of nodes that issue and verify proofs and answer requests.
func proofs(random *rand.Rand, n int) (list []events.PoHEvent) {
	for range n {
		latency := int64(float64(2*time.Millisecond) * (0.5 + random.ExpFloat64()))
		e := events.PoHEvent{Kind: events.KindIssued, Node: fmt.Sprintf("node-%d", random.IntN(6)), Result: events.Success, Latency: latency}
		switch random.IntN(8) {
		case 0, 1, 2:
			e.Kind, e.Latency = events.KindVerified, latency/9
			if random.IntN(30) == 0 {
				e.Result = events.Failure
			}
		case 3:
			e = events.PoHEvent{Kind: events.KindHTTP, Node: e.Node, Method: "GET", Route: []string{"/proofs/{id}", "/head"}[random.IntN(2)], Status: 200, Latency: latency / 3}
		case 4:
			e = events.PoHEvent{Kind: events.KindPeers, Node: e.Node, Peers: uint64(5 + random.IntN(3))}
		}
		list = append(list, e)
	}
	return list
}
