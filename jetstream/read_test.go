package jetstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/jetstream"
)

// publishNumbers publishes from, from+1 … to-1 to partitions 3 and 4 in turn,
// until each is stored once, whatever happens to the server.
func publishNumbers(ctx context.Context, c *jetstream.Client, from, to int) error {
	for i := from; i < to; {
		header := jetstream.Header{jetstream.MessageID: {strconv.Itoa(i)}}
		wait, cancel := context.WithTimeout(ctx, time.Second)
		_, err := c.Publish(wait, jetstream.Holds.PartitionSubject(3+i%2), header, []byte(strconv.Itoa(i)))
		cancel()
		switch {
		case err == nil:
			i++
		case ctx.Err() != nil:
			return err
		case errors.Is(err, jetstream.ErrNotStored), errors.Is(err, jetstream.ErrUnknownOutcome), errors.Is(err, jetstream.ErrNoStream):
		default:
			return err
		}
	}
	return nil
}

func TestReadPartition(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	if err := publishNumbers(ctx, c, 0, 20); err != nil {
		t.Fatal(err)
	}
	before := time.Now().Add(-patience)
	r, err := c.ReadPartition(ctx, jetstream.Holds, 3, 5) // 0 is at 1, so 4 is at 5
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	for i := 4; i < 20; i += 2 {
		m, err := r.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		want := jetstream.Message{Sequence: uint64(i + 1), Subject: "hold.p.3", Pending: uint64((18 - i) / 2)}
		if m.Sequence != want.Sequence || m.Subject != want.Subject || m.Pending != want.Pending || string(m.Data) != strconv.Itoa(i) {
			t.Fatalf("got %+v, want %+v with %d", m, want, i)
		}
		if m.Time.Before(before) || m.Time.After(time.Now().Add(patience)) || m.Time.Location() != time.UTC {
			t.Errorf("stored at %v?", m.Time)
		}
	}

	short, cancel := context.WithCancel(ctx)
	time.AfterFunc(10*time.Millisecond, cancel)
	if m, err := r.Next(short); !errors.Is(err, context.Canceled) {
		t.Errorf("at the end: %+v, %v, want the context's error", m, err)
	}
	if err := publishNumbers(ctx, c, 20, 22); err != nil {
		t.Fatal(err)
	}
	if m, err := r.Next(ctx); err != nil || string(m.Data) != "20" {
		t.Errorf("after a pause: %q, %v", m.Data, err)
	}

	time.AfterFunc(10*time.Millisecond, r.Stop)
	if _, err := r.Next(ctx); !errors.Is(err, jetstream.ErrStopped) {
		t.Errorf("Stop under Next: %v", err)
	}
	r.Stop()
	if _, err := r.Next(ctx); !errors.Is(err, jetstream.ErrStopped) {
		t.Errorf("Next after Stop: %v", err)
	}
	if n := r.Waiting(); n != 8 {
		t.Errorf("%d messages waited when it began, want 8", n)
	}
}

// Readers that stop leave no consumer on the server.
func TestReaderStopRemovesConsumer(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	for range 3 {
		r, err := c.ReadStream(ctx, "HOLDS", 1)
		if err != nil {
			t.Fatal(err)
		}
		r.Stop()
	}
	js, err := natsjs.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	until(t, "no consumers", func() bool {
		s, err := js.Stream(ctx, "HOLDS")
		return err == nil && s.CachedInfo().State.Consumers == 0
	})
}

func TestReadRefusesWhatIsNotThere(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s := startServer(t)
	c := s.client()
	if _, err := c.ReadPartition(ctx, jetstream.Holds, 0, 1); !errors.Is(err, jetstream.ErrNoStream) {
		t.Errorf("no stream: %v", err)
	}
	if _, err := c.Apply(ctx, jetstream.Declaration{}); err != nil {
		t.Fatal(err)
	}
	if err := publishNumbers(ctx, c, 0, 10); err != nil {
		t.Fatal(err)
	}
	r, err := c.ReadPartition(ctx, jetstream.Holds, 3, 11)
	if err != nil {
		t.Fatalf("from behind the end: %v", err)
	}
	r.Stop()
	if _, err := c.ReadPartition(ctx, jetstream.Holds, 3, 12); !errors.Is(err, jetstream.ErrStreamChanged) {
		t.Errorf("from beyond the end: %v, want ErrStreamChanged", err)
	}
	js, err := natsjs.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(ctx, "HOLDS")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(ctx, 1); err == nil {
		t.Error("a log's message can be deleted")
	}
	config := stream.CachedInfo().Config
	config.Discard, config.MaxMsgs = natsjs.DiscardOld, 5
	if _, err := js.UpdateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ReadPartition(ctx, jetstream.Holds, 3, 5); !errors.Is(err, jetstream.ErrTrimmed) {
		t.Errorf("from before the beginning: %v, want ErrTrimmed", err)
	}
	if r, err := c.ReadPartition(ctx, jetstream.Holds, 3, 6); err != nil {
		t.Errorf("from the beginning that is left: %v", err)
	} else {
		r.Stop()
	}
}

// A reader goes on over restarts of the server, without a gap, a repetition or
// a change of order.
func TestReaderOverRestarts(t *testing.T) {
	t.Parallel()
	const count = 600
	ctx := testContext(t)
	s, _ := declared(t)
	published := make(chan error, 1)
	producer := s.client()
	go func() { published <- publishNumbers(ctx, producer, 0, count) }()

	c := s.client()
	r, err := c.ReadPartition(ctx, jetstream.Holds, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	var restarts sync.WaitGroup
	for i := 0; i < count; i += 2 {
		m, err := r.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Data) != strconv.Itoa(i) {
			t.Fatalf("got %s, want %d", m.Data, i)
		}
		if i == 100 || i == 300 || i == count-2 {
			restarts.Wait()
			restarts.Go(s.restart)
		}
	}
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	restarts.Wait()
	// The last restart fell into the end of the stream: what comes next still does.
	if err := publishNumbers(ctx, producer, count, count+1); err != nil {
		t.Fatal(err)
	}
	if m, err := r.Next(ctx); err != nil || string(m.Data) != strconv.Itoa(count) {
		t.Errorf("at the end: %s, %v", m.Data, err)
	}
}

// Messages that were on their way when the connection broke come again, also
// when they are the last of the stream.
func TestReaderOverLostConnection(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, direct := declared(t)
	p := startProxy(t, s.listen)
	c := connect(t, p.url())
	r, err := c.ReadPartition(ctx, jetstream.Holds, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	for round := range 5 {
		p.setDeaf(true) // the server believes to have delivered these
		if err := publishNumbers(ctx, direct, 4*round, 4*round+4); err != nil {
			t.Fatal(err)
		}
		p.cut()
		p.setDeaf(false)
		for i := 4 * round; i < 4*round+4; i += 2 {
			if m, err := r.Next(ctx); err != nil || string(m.Data) != strconv.Itoa(i) {
				t.Fatalf("round %d: got %q, %v, want %d", round, m.Data, err, i)
			}
		}
	}
}

// Messages that were lost over a connection that holds come again, as soon as
// the next one shows that there is a hole.
func TestReaderOverLostMessages(t *testing.T) {
	t.Parallel()
	const size = 1000
	ctx := testContext(t)
	s, direct := declared(t)
	p := startProxy(t, s.listen)
	r, err := connect(t, p.url()).ReadPartition(ctx, jetstream.Holds, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	for n := range byte(4) {
		p.setDeaf(n == 1 || n == 2)
		before := p.dropped.Load()
		if _, err := direct.Publish(ctx, jetstream.Holds.PartitionSubject(3), nil, bytes.Repeat([]byte{n}, size)); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			if m, err := r.Next(ctx); err != nil || m.Sequence != 1 {
				t.Fatal(m.Sequence, err)
			}
		}
		if n == 1 || n == 2 {
			until(t, "the message is lost", func() bool { return p.dropped.Load() >= before+size })
		}
	}
	for n := range byte(3) {
		m, err := r.Next(ctx)
		if err != nil || m.Sequence != uint64(n)+2 || len(m.Data) != size || m.Data[0] != n+1 {
			t.Fatalf("got sequence %d, %v, want %d", m.Sequence, err, n+2)
		}
	}
}

// A consumer that an operator deletes is made again.
func TestReaderOverLostConsumer(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	r, err := c.ReadPartition(ctx, jetstream.Holds, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	js, err := natsjs.New(c.Conn())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		stream, err := js.Stream(ctx, "HOLDS")
		if err != nil {
			t.Fatal(err)
		}
		for name := range stream.ConsumerNames(ctx).Name() {
			if err := stream.DeleteConsumer(ctx, name); err != nil {
				t.Fatal(err)
			}
		}
		if err := publishNumbers(ctx, c, 2*i, 2*i+2); err != nil {
			t.Fatal(err)
		}
		if m, err := r.Next(ctx); err != nil || string(m.Data) != strconv.Itoa(2*i) {
			t.Fatalf("got %q, %v, want %d", m.Data, err, 2*i)
		}
	}
}

// A stream that is deleted ends the reader, and so does one that was made anew.
func TestReaderOfStreamThatGoes(t *testing.T) {
	t.Parallel()
	for _, anew := range []bool{false, true} {
		t.Run(fmt.Sprintf("anew=%v", anew), func(t *testing.T) {
			ctx := testContext(t)
			s, direct := declared(t)
			p := startProxy(t, s.listen)
			c := connect(t, p.url())
			if err := publishNumbers(ctx, direct, 0, 4); err != nil {
				t.Fatal(err)
			}
			r, err := c.ReadPartition(ctx, jetstream.Holds, 3, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Stop()
			for range 2 {
				if _, err := r.Next(ctx); err != nil {
					t.Fatal(err)
				}
			}
			p.setRefuse(true)
			p.cut()
			js, err := natsjs.New(direct.Conn())
			if err != nil {
				t.Fatal(err)
			}
			if err := js.DeleteStream(ctx, "HOLDS"); err != nil {
				t.Fatal(err)
			}
			want := jetstream.ErrNoStream
			if anew {
				want = jetstream.ErrStreamChanged
				if _, err := direct.Apply(ctx, jetstream.Declaration{}); err != nil {
					t.Fatal(err)
				}
				for range 6 {
					if _, err := direct.Publish(ctx, jetstream.Holds.PartitionSubject(3), nil, []byte("other")); err != nil {
						t.Fatal(err)
					}
				}
			}
			p.setRefuse(false)
			for range 2 { // and it stays so
				if m, err := r.Next(ctx); !errors.Is(err, want) {
					t.Fatalf("got %q, %v, want %v", m.Data, err, want)
				}
			}
		})
	}
}

func TestReaderOfClosedConnection(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	s, _ := declared(t)
	c := s.client()
	r, err := c.ReadPartition(ctx, jetstream.Holds, 3, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	time.AfterFunc(10*time.Millisecond, c.Conn().Close)
	if _, err := r.Next(ctx); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("got %v, want ErrConnectionClosed", err)
	}
}

func TestEmptyThrough(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	_, c := declared(t)
	through := func(partition int, after, want uint64) {
		t.Helper()
		got, err := c.EmptyThrough(ctx, jetstream.Holds, partition, after)
		if err != nil || got != want {
			t.Errorf("partition %d after %d: got %d, %v, want %d", partition, after, got, err, want)
		}
	}
	through(3, 0, 0)
	if err := publishNumbers(ctx, c, 0, 10); err != nil { // partition 3 has 1, 3, 5, 7, 9; 4 has 2, 4 … 10
		t.Fatal(err)
	}
	through(3, 0, 0)
	through(3, 1, 2)
	through(3, 9, 10)
	through(4, 9, 9)
	through(4, 10, 10)
	through(0, 0, 10)
	through(0, 10, 10)
}
