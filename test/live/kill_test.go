package live

import (
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// TestKilled kills everything, again and again, at any moment, while files are imported. In the end every score is exact
// to the last digit, and every event that was refused is so once.
func TestKilled(t *testing.T) {
	t.Parallel()
	t.Logf("-seed=%d", *seed)
	const kills = 10
	random := rand.New(rand.NewPCG(*seed, 1))
	store, address := filepath.Join(t.TempDir(), "store"), freeAddress(t, random)
	imports := startLoad(t, "nats://"+address)

	importers := 0
	for i := range kills {
		p := beginUp(t, store, "--nats-listen", address)
		if i%4 != 3 { // every fourth is killed while it starts, perhaps
			p.awaitReady(t)
		}
		wait(t, random, 600*time.Millisecond, p)
		if i%3 == 2 {
			importers += imports.kill()
		}
		p.kill()
	}
	p := up(t, store, "--nats-listen", address)
	exporter := p.awaitReady(t)
	wait(t, random, 300*time.Millisecond, p)
	importers += imports.kill() // the importer alone
	expect(t, exporter, "nats://"+address, imports.stop(t))
	t.Logf("killed holdfast up %d times, importers %d times", kills, importers)
	p.stop(t)
}

// wait lets the process work for a random time.
func wait(t *testing.T, random *rand.Rand, most time.Duration, p *process) {
	t.Helper()
	select {
	case <-time.After(time.Duration(random.Int64N(int64(most)))):
	case <-p.exited:
		t.Fatal("the process ended by itself")
	}
}

// awaitReady waits until the exporter of a process says that all of it serves, and returns the exporter's address.
func (p *process) awaitReady(t *testing.T) string {
	t.Helper()
	p.awaitListening(t)
	exporter := p.address(t, "exporter")
	p.await(t, "http://"+exporter+"/readyz", nil)
	return exporter
}

// freeAddress returns a loopback address that nobody listens on. Its port is one that no system gives out by itself, so it stays
// free while nobody listens.
func freeAddress(t *testing.T, random *rand.Rand) string {
	t.Helper()
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+random.IntN(10_000)))
		if l, err := net.Listen("tcp", address); err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}
