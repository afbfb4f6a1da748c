//go:build unix

package live

import (
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestTerminated asks everything to end while files are imported. It ends well and in time, and goes on where it was.
func TestTerminated(t *testing.T) {
	t.Parallel()
	t.Logf("-seed=%d", *seed)
	random := rand.New(rand.NewPCG(*seed, 2))
	store, address := filepath.Join(t.TempDir(), "store"), freeAddress(t, random)
	imports := startLoad(t, "nats://"+address)
	for range 3 {
		p := up(t, store, "--nats-listen", address)
		p.awaitReady(t)
		wait(t, random, 500*time.Millisecond, p)
		p.end(t, syscall.SIGTERM, 10*time.Second)
	}
	p := up(t, store, "--nats-listen", address)
	expect(t, p.awaitReady(t), "nats://"+address, imports.stop(t))
	p.end(t, syscall.SIGTERM, 10*time.Second)
}
