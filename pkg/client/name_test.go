package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
)

func TestNameIsTaken(t *testing.T) {
	t.Parallel()
	s, js := declared(t)
	o := client.Options{NATS: natsAt(s), Name: "till", Keep: client.Folder(t.TempDir())}
	first := openClient(t, o)
	if _, err := client.Open(testContext(t), o); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("the same folder again: %v, want an error that names this process", err)
	}
	other := o
	other.Keep = client.Folder(t.TempDir())
	if _, err := client.Open(testContext(t), other); !errors.Is(err, client.ErrNameTaken) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", os.Getpid())) {
		t.Errorf("the same name in another folder: %v, want ErrNameTaken that names this process", err)
	}

	// NATS being away at first, it becomes a state, in which nothing that was taken is lost.
	s.stop()
	second := openClient(t, other)
	give(t, second, holds(0, 10, 3)...)
	s.start()
	until(t, "the state is known", func() bool { return errors.Is(second.Stats().Err, client.ErrNameTaken) })
	if err := second.Hold(t.Context(), hold(1, 1)); !errors.Is(err, client.ErrNameTaken) {
		t.Errorf("Hold: %v, want ErrNameTaken", err)
	}
	until(t, "the first one is connected", func() bool { return first.Stats().Connected })
	closeClient(t, first)
	flush(t, second)
	give(t, second, holds(10, 20, 3)...)
	flush(t, second)
	wantCounted(t, js, holds(0, 20, 3))

	// With a bucket, each takes a name of its own.
	o.Keep = client.Bucket()
	one, two := openClient(t, o), openClient(t, o)
	if one.Stats().Name != "till-1" || two.Stats().Name != "till-2" {
		t.Errorf("names %s and %s, want till-1 and till-2", one.Stats().Name, two.Stats().Name)
	}
}

func TestCrashedClientsClaimIsTakenBackAtOnce(t *testing.T) {
	s, js := declared(t)
	path := t.TempDir()
	o := client.Options{NATS: natsAt(s), Name: "till"}
	var last uint64
	for round := range 3 {
		d, err := client.OpenDisk(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.OpenOn(testContext(t), o, d)
		if err != nil {
			t.Fatal(err)
		}
		if epoch := c.Stats().Epoch; epoch <= last {
			t.Errorf("round %d: epoch %d behind %d", round, epoch, last)
		} else {
			last = epoch
		}
		give(t, c, holds(10*round, 10*round+10, 4)...)
		flush(t, c)
		d.Kill()
		c.Crash()
	}
	wantCounted(t, js, holds(0, 30, 4))
}

// A segment that is sent and not yet gone would be sent again by the next process, under an epoch that must not be over by then.
func TestNothingNewIsSentBeforeWhatIsInheritedIsGone(t *testing.T) {
	t.Parallel()
	s, js := declared(t)
	path := t.TempDir()
	o := client.Options{NATS: natsAt(s), Name: "till", Keep: client.Folder(path)}
	s.stop()
	c := openClient(t, o)
	give(t, c, holds(0, 20, 3)...)
	if err := closeNow(c); err != nil {
		t.Fatal(err)
	}
	s.start()
	var removable atomic.Bool
	var tried atomic.Int64
	d, err := client.OpenDisk(path, func(op string) client.Fault {
		if op != "remove" || removable.Load() {
			return client.Works
		}
		tried.Add(1)
		return client.Fails
	})
	if err != nil {
		t.Fatal(err)
	}
	if c, err = client.OpenOn(testContext(t), o, d); err != nil {
		t.Fatal(err)
	}
	defer closeNow(c)
	give(t, c, holds(20, 40, 3)...)
	until(t, "removal is tried again", func() bool { return tried.Load() >= 3 })
	if n := c.Stats().Acknowledged; n != 20 {
		t.Errorf("%d acknowledged, want the 20 of before alone", n)
	}
	removable.Store(true)
	flush(t, c)
	wantCounted(t, js, holds(0, 40, 3))
}

// A claim that is gone is made again. If somebody used the name meanwhile, a client with a bucket takes another identity.
func TestLostClaim(t *testing.T) {
	keeps(t, func(t *testing.T, keep client.Keep) {
		s, js := declared(t)
		o := client.Options{NATS: natsAt(s), Name: "till", Keep: keep}.WithClaimTTL(time.Second)
		c := openClient(t, o)
		give(t, c, holds(0, 10, 3)...)
		flush(t, c)
		stats := c.Stats()
		bucket := js.Bucket(jetstream.Producers)
		lose := func() {
			t.Helper()
			until(t, "the claim is deleted", func() bool {
				e, err := bucket.Get(testContext(t), stats.Name)
				return err == nil && bucket.Delete(testContext(t), stats.Name, e.Revision) == nil
			})
		}
		lose()
		give(t, c, holds(10, 20, 3)...)
		flush(t, c)
		until(t, "the claim is there again", func() bool {
			_, err := bucket.Get(testContext(t), stats.Name)
			return err == nil
		})
		if again := c.Stats(); again.Epoch != stats.Epoch || again.Name != stats.Name {
			t.Errorf("%+v, want the identity of before: %+v", again, stats)
		}
		if stats.Name == "till-1" {
			if err := bumpNumbers(testContext(t), js, stats.Name); err != nil {
				t.Fatal(err)
			}
			lose()
			until(t, "it has another identity", func() bool { return c.Stats().Epoch > stats.Epoch })
		}
		give(t, c, holds(20, 30, 3)...)
		closeClient(t, c)
		wantCounted(t, js, holds(0, 30, 3))

		c = openClient(t, o)
		give(t, c, holds(30, 40, 3)...)
		flush(t, c)
		wantCounted(t, js, holds(0, 40, 3))
	})
}

// bumpNumbers writes the kept numbers of a name again, as another user of the name would.
func bumpNumbers(ctx context.Context, js *jetstream.Client, name string) error {
	bucket := js.Bucket(jetstream.Producers)
	e, err := bucket.Get(ctx, "numbers."+name)
	if err != nil {
		return err
	}
	_, err = bucket.Update(ctx, e.Key, e.Value, e.Revision, 0)
	return err
}

func TestCrashWithABucketTakesANewEpoch(t *testing.T) {
	s, js := declared(t)
	o := client.Options{NATS: natsAt(s), Name: "till"}.WithClaimTTL(time.Second)
	c := openClient(t, o)
	give(t, c, holds(0, 10, 3)...)
	flush(t, c)
	first := c.Stats().Epoch
	c.Crash()
	until(t, "the claim expires", func() bool {
		_, err := js.Bucket(jetstream.Producers).Get(testContext(t), "till-1")
		return errors.Is(err, jetstream.ErrKeyNotFound)
	})
	c = openClient(t, o)
	if stats := c.Stats(); stats.Name != "till-1" || stats.Epoch <= first {
		t.Errorf("%+v, want till-1 with an epoch above %d", stats, first)
	}
	give(t, c, holds(10, 20, 3)...)
	flush(t, c)
	wantCounted(t, js, holds(0, 20, 3))
}

// What two processes before have left in the spool has two epochs. A process that dies while it sends them must not leave a segment of the
// lower one behind when the higher one has begun.
func TestInheritedEpochsAreSentOneAfterTheOther(t *testing.T) {
	s, js := declared(t)
	path := t.TempDir()
	o := client.Options{NATS: natsAt(s), Name: "till", Keep: client.Folder(path)}
	s.stop()
	for from := 0; from < 40; from += 20 {
		c := openClient(t, o)
		give(t, c, holds(from, from+20, 3)...)
		if err := closeNow(c); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	var tried atomic.Int64
	d, err := client.OpenDisk(path, func(op string) client.Fault {
		if op != "remove" {
			return client.Works
		}
		tried.Add(1)
		return client.Fails
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.OpenOn(testContext(t), o, d)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "removal is tried again", func() bool { return tried.Load() >= 3 })
	d.Kill()
	c.Crash()

	c = openClient(t, o)
	defer closeNow(c)
	give(t, c, holds(40, 60, 3)...)
	flush(t, c)
	wantCounted(t, js, holds(0, 60, 3))
}
