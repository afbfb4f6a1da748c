package collect_test

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/client/collect"
	"github.com/city-chain/holdfast/pkg/events"
)

// printer stands for a client: it prints what it takes.
type printer struct{}

func (printer) SendPoH(_ context.Context, list []events.PoHEvent) (*client.Receipt, error) {
	for _, e := range list {
		fmt.Printf("%d × %v by %s, of which latencies are known: %v\n", e.Count, e.Of, e.Node, e.Latencies != "")
	}
	return nil, nil
}

func ExampleNew() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	registry := prometheus.NewRegistry()
	c, err := collect.New(collect.Options{Node: "issuer-3", Publisher: printer{}, Registerer: registry})
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()

	for range 1000 {
		c.RecordIssued(events.Success, 2*time.Millisecond)
	}
	c.RecordGC(events.MinorGC)

	// The servers have stopped: hand over the rest.
	if err := c.Close(ctx); err != nil {
		fmt.Println(err)
	}
	fmt.Println(<-done)
	// Output:
	// 1000 × poh.issued by issuer-3, of which latencies are known: true
	// 1 × gc by issuer-3, of which latencies are known: false
	// <nil>
}
