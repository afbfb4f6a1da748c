package client_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/city-chain/holdfast/internal/embedded"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/events"
)

// exampleServer is a server with the streams, which an aggregator makes otherwise.
func exampleServer(ctx context.Context) (url, folder string, stop func(), err error) {
	folder, err = os.MkdirTemp("", "holdfast-example-")
	if err != nil {
		return "", "", nil, err
	}
	server, err := embedded.New(embedded.Options{StoreDir: filepath.Join(folder, "nats"), Listen: "127.0.0.1:0"})
	if err != nil {
		return "", "", nil, err
	}
	if err := server.Start(ctx); err != nil {
		return "", "", nil, err
	}
	nc, err := jetstream.Connect(ctx, jetstream.Options{URL: server.URL()})
	if err != nil {
		return "", "", nil, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return "", "", nil, err
	}
	_, err = js.Apply(ctx, jetstream.Declaration{})
	return server.URL(), folder, func() {
		_ = server.Stop(context.Background())
		_ = os.RemoveAll(folder)
	}, err
}

func ExampleOpen() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	url, folder, stop, err := exampleServer(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer stop()

	c, err := client.Open(ctx, client.Options{
		NATS: jetstream.Options{URL: url},
		Name: "till-7",
		Keep: client.Folder(filepath.Join(folder, "till")), // numbers, and what cannot be sent at once
	})
	if err != nil {
		log.Fatal(err)
	}
	weight, err := events.ParseWeight("2.5")
	if err != nil {
		log.Fatal(err)
	}
	start := events.Time(time.Now().Add(-time.Minute).UnixMilli())
	err = c.Hold(ctx, events.HoldEvent{Kind: events.KindHold, Token: "gold", Holder: "alice", Start: start, End: start + 30_000, Weight: weight})
	if err != nil {
		log.Fatal(err)
	}
	if err := c.Flush(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Stats().Acknowledged, "stored as", c.Stats().Name)
	if err := c.Close(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: 1 stored as till-7
}

func ExampleTracker() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	url, folder, stop, err := exampleServer(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer stop()
	weight, err := events.ParseWeight("1")
	if err != nil {
		log.Fatal(err)
	}
	run := func(work func(t *client.Tracker) error) {
		c, err := client.Open(ctx, client.Options{NATS: jetstream.Options{URL: url}, Name: "till-7", Keep: client.Folder(folder)})
		if err != nil {
			log.Fatal(err)
		}
		t, err := client.NewTracker(c, client.TrackerOptions{Folder: folder})
		if err != nil {
			log.Fatal(err)
		}
		if err := work(t); err != nil {
			log.Fatal(err)
		}
		if err := t.Close(ctx); err != nil {
			log.Fatal(err)
		}
		if err := c.Close(ctx); err != nil {
			log.Fatal(err)
		}
	}
	run(func(t *client.Tracker) error {
		_, err := t.Start(ctx, "gold", "alice", weight)
		return err
	})
	run(func(t *client.Tracker) error { // after a restart
		for _, h := range t.Open() {
			fmt.Println(h.Holder, "still holds", h.Token)
			if err := h.Stop(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	// Output: alice still holds gold
}
