package live

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/embedded"
)

// TestServicesKilled runs each service as a process of its own and kills one after the other, again and again, while holds are
// posted. A request without an answer is posted again, as its holds have ids: in the end each counts once.
func TestServicesKilled(t *testing.T) {
	t.Parallel()
	t.Logf("-seed=%d", *seed)
	random := rand.New(rand.NewPCG(*seed, 3))
	server := natsServer(t)
	processes := map[string]*process{}
	addresses := map[string]string{}
	run := func(name string) {
		processes[name] = start(t, name, "--nats", server, "--listen", addresses[name])
	}
	for _, name := range []string{"aggregator", "ingest", "exporter"} {
		addresses[name] = freeAddress(t, random)
		run(name)
	}
	posts := startPosts(t, "http://"+addresses["ingest"]+"/hold")

	for _, name := range []string{"aggregator", "aggregator", "ingest", "aggregator", "exporter", "aggregator", "ingest", "aggregator"} {
		wait(t, random, 400*time.Millisecond, processes[name])
		processes[name].kill()
		run(name)
	}
	for name, p := range processes {
		p.await(t, "http://"+addresses[name]+"/readyz", nil)
	}
	known, err := posts.stop()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("posted %d requests, %d of them answered at the first attempt", posts.requests, posts.atOnce)
	expect(t, addresses["exporter"], server, known)
	for _, name := range []string{"exporter", "ingest", "aggregator"} {
		processes[name].stop(t)
	}
}

// natsServer runs a NATS server in this process and returns its URL.
func natsServer(t *testing.T) string {
	t.Helper()
	server, err := embedded.New(embedded.Options{StoreDir: filepath.Join(t.TempDir(), "nats"), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		bounded, cancel := context.WithTimeout(context.Background(), patience) // the test's own context has ended
		defer cancel()
		if err := server.Stop(bounded); err != nil {
			t.Error(err)
		}
	})
	return server.URL()
}

// posts posts requests, one after the other, until it is stopped.
type posts struct {
	url      string
	stopping chan struct{}
	done     chan struct{}

	// To be read after stop.
	requests, atOnce int
	known            *known
	err              error
}

func startPosts(t *testing.T, url string) *posts {
	now := instant(time.Now().UnixMilli())
	p := &posts{url: url, stopping: make(chan struct{}), done: make(chan struct{}), known: newKnown(now + 365*day)}
	go func() {
		defer close(p.done)
		s := &stories{random: rand.New(rand.NewPCG(*seed, 4)), now: now, known: p.known}
		for p.goesOn() && p.err == nil {
			s.lines = nil
			for i := range 20 {
				w, weight := s.weight()
				from := s.start()
				holder := fmt.Sprintf("holder %d", s.random.IntN(2000))
				s.say(holder, "gold", "hold_id", fmt.Sprintf("%d.%d", p.requests, i), "start", from.seconds(), "weight", weight)
				p.known.held(holder, w, from, p.known.at)
			}
			p.requests++
			p.err = p.post(t.Context(), strings.Join(s.lines, "\n"))
		}
	}()
	t.Cleanup(func() { <-p.done })
	return p
}

func (p *posts) goesOn() bool {
	select {
	case <-p.stopping:
		return false
	default:
		return true
	}
}

// post posts until all of the request is taken.
func (p *posts) post(ctx context.Context, body string) error {
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for attempt := 0; ; attempt++ {
		code, answer := p.postOnce(ctx, body)
		switch {
		case code == http.StatusOK:
			if attempt == 0 {
				p.atOnce++
			}
			return nil
		case code != 0 && code != http.StatusServiceUnavailable:
			return fmt.Errorf("POST %s: %d %s", p.url, code, answer)
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return fmt.Errorf("POST %s: %w: %d %s", p.url, ctx.Err(), code, answer)
		}
	}
}

// postOnce returns code 0 if there was no answer.
func (p *posts) postOnce(ctx context.Context, body string) (code int, answer string) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	request.Header.Set("Content-Type", "application/x-ndjson")
	response, err := client.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(text)
}

// stop lets the last request be answered. Then everything is known that must be served.
func (p *posts) stop() (*known, error) {
	close(p.stopping)
	<-p.done
	return p.known, p.err
}
