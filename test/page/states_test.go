package page

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// The exporter goes away and comes back where it was: the page says so, its numbers stand still, and then it goes on.
func TestReconnects(t *testing.T) {
	needsBrowser(t)
	w := newWorld(t)
	w.put(hold("a", time.Hour, 1000*one))
	b := open(t, 1280, 1000, w.url()+"#holder=a")
	b.state("Live")

	w.exporter.end(t)
	b.state("Disconnected")
	if banner := b.text("#banner"); !strings.Contains(banner, "No connection to the exporter") || !strings.Contains(banner, "stand still") {
		t.Errorf("the banner says %q", banner)
	}
	if role := eval[string](b, `document.querySelector("#banner").getAttribute("role")`); role != "alert" {
		t.Errorf("the banner has the role %q", role)
	}
	before := b.text("#ranking td.score")
	for began := time.Now(); time.Since(began) < 500*time.Millisecond; {
		if after := b.text("#ranking td.score"); before == "" || after != before {
			t.Fatalf("without a connection the score went from %s to %s", before, after)
		}
	}

	w.startExporter()
	b.state("Live")
	w.put(hold("b", 2*time.Hour, 1000*one))
	until(t, "what was published since is shown", func() bool { return b.text("#ranking bdi") == "b" })
	if !eval[bool](b, `document.querySelector("#banner").hidden`) {
		t.Errorf("the banner still says %q", b.text("#banner"))
	}
	b.quiet("net::ERR_")
}

// The exporter takes questions and does not answer: the first that is waited for in vain is enough.
func TestSaysThatNobodyAnswers(t *testing.T) {
	needsBrowser(t)
	w := newWorld(t)
	w.put(hold("a", time.Hour, 1000*one))
	var hung atomic.Bool
	behind := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: w.listen})
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if hung.Load() {
			<-r.Context().Done()
			return
		}
		behind.ServeHTTP(rw, r)
	}))
	t.Cleanup(proxy.Close)
	b := open(t, 1280, 1000, proxy.URL+"/")
	b.state("Live")

	hung.Store(true)
	began := time.Now()
	b.state("Disconnected")
	if took := time.Since(began); took > 14*time.Second {
		t.Errorf("it was said after %v", took)
	}
	if banner := b.text("#banner"); !strings.Contains(banner, "does not answer in time") {
		t.Errorf("the banner says %q", banner)
	}
	hung.Store(false)
	b.state("Live")
	b.quiet()
}

// Nobody folds: the page says who is missing, and later how far behind it is.
func TestSaysThatNobodyFolds(t *testing.T) {
	needsBrowser(t)
	w := newWorld(t)
	w.put(hold("a", time.Hour, one))
	b := open(t, 1280, 1000, w.url())
	b.state("Live")

	w.aggregator.end(t)
	b.state("Behind")
	if banner := b.text("#banner"); !strings.Contains(banner, "No aggregator is running") {
		t.Errorf("the banner says %q", banner)
	}
	w.publish(jetstream.Holds, "b", events.AppendHolds(nil, events.Origin{}, []events.HoldEvent{hold("b", time.Hour, one)}))
	until(t, "the lag is shown", func() bool { return strings.Contains(b.text("#pipeline-note"), "HOLDS: 1 behind") })
	late := fmt.Sprintf("HOLDS: partition %d is 1 message behind, for over 10 s.", events.PlaceOf("b").Partition)
	if banner := b.text("#banner"); strings.Contains(banner, "message") {
		t.Errorf("what waits since a moment ago is said to be late: %q", banner)
	}
	w.ahead.Store(int64(11 * time.Second))
	until(t, "it is said that it has waited for long", func() bool { return strings.Contains(b.text("#banner"), late) })

	w.startAggregator()
	b.state("Live")
	until(t, "what waited is folded", func() bool { return len(b.texts("#ranking bdi")) == 2 })
	if note := b.text("#pipeline-note"); !strings.Contains(note, "HOLDS: all folded") {
		t.Errorf("of the pipeline it is said: %q", note)
	}
	b.quiet()
}

// Partitions have an owner that cannot serve them: the page says which and why.
func TestSaysWhatIsNotServed(t *testing.T) {
	needsBrowser(t)
	w := newWorld(t)
	b := open(t, 1280, 1000, w.url())
	b.state("Live")
	if _, err := w.client.Conn().Request("$JS.API.STREAM.DELETE.POH", nil, patience); err != nil {
		t.Fatal(err)
	}
	until(t, "it is said", func() bool {
		return strings.Contains(b.text("#banner"), "14, 15 of POH failing, the first: load partition 0 of POH: ")
	})
	if !strings.Contains(b.text("#pipeline-body"), "failing") {
		t.Errorf("the workers: %q", b.text("#pipeline-body"))
	}
}

// An exporter that has not loaded the state says so, and the page shows it.
func TestSaysThatNothingIsLoaded(t *testing.T) {
	needsBrowser(t)
	w := newServer(t)
	w.startExporter()
	b := open(t, 1280, 1000, w.url())
	b.state("Loading")
	if banner := b.text("#banner"); !strings.Contains(banner, "start an aggregator") {
		t.Errorf("the banner says %q", banner)
	}
	w.startAggregator()
	b.state("Live")
	if eval[bool](b, `document.querySelector("#ranking-empty").hidden`) {
		t.Error("a ranking of nobody does not say that it is empty")
	}
	b.quiet("503")
}

// The pipeline's tables are the exporter's answer.
func TestPipeline(t *testing.T) {
	needsBrowser(t)
	w := newWorld(t)
	w.put(hold("a", time.Hour, one), events.HoldEvent{Kind: events.KindRelease, Token: "none", Holder: "a", End: events.Time(time.Now().UnixMilli())})
	w.putPoH(events.PoHEvent{Kind: events.KindIssued, Node: "n", Result: events.Success, Latency: 2_000_000}, events.PoHEvent{Kind: events.KindPeers, Node: "n", Peers: 7})
	b := open(t, 1280, 1000, w.url())
	b.state("Live")
	if rows := b.texts("#pipeline-body tbody tr"); len(rows) != events.Partitions+2 || rows[len(rows)-1] != "nothing to release1" {
		t.Errorf("the pipeline: %q", rows)
	}
	if strings.Contains(b.text("#pipeline-body"), "nobody") {
		t.Errorf("partitions without an owner: %q", b.text("#pipeline-body"))
	}
	if row := b.text("#poh-body tbody tr"); !strings.HasPrefix(row, "Issued, success1") || !strings.Contains(row, " ms") {
		t.Errorf("proofs: %q", row)
	}
	if note := b.text("#poh-note"); note != "1 node, 7 active peers" {
		t.Errorf("of the nodes it is said: %q", note)
	}
	b.quiet()
}
