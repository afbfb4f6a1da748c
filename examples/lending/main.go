// Command lending is a service of fifty lines that uses all of pkg/client: a tracker states who has borrowed what, a collector counts the
// receipts that are issued and verified, and middleware what is answered over HTTP and gRPC.
//
//	lending NATS-URL FOLDER HTTP-ADDRESS GRPC-ADDRESS
//
// With `holdfast up` on this machine, in a clone:
//
//	go run ./examples/lending nats://127.0.0.1:4222 lending-data 127.0.0.1:8181 127.0.0.1:8182
//	curl -X POST http://127.0.0.1:8181/loans/ladder/ann    # prints the path by which the loan ends
//	curl -X DELETE http://127.0.0.1:8181/loans/…
//	holdfast holder ann
package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/client"
	"github.com/city-chain/holdfast/pkg/client/collect"
	"github.com/city-chain/holdfast/pkg/client/pohgrpc"
	"github.com/city-chain/holdfast/pkg/client/pohhttp"
	"github.com/city-chain/holdfast/pkg/events"
)

func main() {
	if len(os.Args) != 5 {
		log.Fatal("usage: lending NATS-URL FOLDER HTTP-ADDRESS GRPC-ADDRESS")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	nats, folder := jetstream.Options{URL: os.Args[1]}, os.Args[2]
	producer := must(client.Open(ctx, client.Options{NATS: nats, Name: "lending", Keep: client.Folder(folder)}))
	tracker := must(client.NewTracker(producer, client.TrackerOptions{Folder: folder}))
	counts := must(collect.New(collect.Options{Node: "lending", Publisher: producer, Registerer: prometheus.DefaultRegisterer, Interval: time.Second}))
	go counts.Run(ctx)

	routes := http.NewServeMux()
	routes.HandleFunc("POST /loans/{item}/{member}", func(w http.ResponseWriter, r *http.Request) {
		loan, err := tracker.Start(r.Context(), r.PathValue("item"), r.PathValue("member"), must(events.ParseWeight("1")))
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		began := time.Now()
		issued := receipt(loan.ID)
		counts.RecordIssued(events.Success, time.Since(began))
		fmt.Fprintf(w, "/loans/%s/%s\n", loan.ID, issued)
	})
	routes.HandleFunc("DELETE /loans/{id}/{receipt}", func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		if receipt(r.PathValue("id")) != r.PathValue("receipt") {
			counts.RecordVerified(events.Failure, time.Since(began))
			http.Error(w, "that is not its receipt", http.StatusForbidden)
			return
		}
		counts.RecordVerified(events.Success, time.Since(began))
		for _, loan := range tracker.Open() { // those of before a restart as well
			if loan.ID == r.PathValue("id") && loan.Stop(r.Context()) != nil {
				http.Error(w, "not now, try again", http.StatusServiceUnavailable)
			}
		}
	})
	routes.Handle("GET /metrics", promhttp.Handler())
	web := &http.Server{Addr: os.Args[3], Handler: pohhttp.Handler(counts, routes, pohhttp.Options{}), ReadHeaderTimeout: 5 * time.Second}
	go web.ListenAndServe()
	calls := grpc.NewServer(pohgrpc.ServerOptions(counts)...)
	grpc_health_v1.RegisterHealthServer(calls, health.NewServer())
	go calls.Serve(must(net.Listen("tcp", os.Args[4])))

	<-ctx.Done() // the servers stop first, the producer last
	within, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	calls.GracefulStop()
	for _, end := range []func(context.Context) error{web.Shutdown, counts.Close, tracker.Close, producer.Close} {
		if err := end(within); err != nil {
			log.Print(err)
		}
	}
}

// receipt is the proof that a loan was begun here.
func receipt(loan string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte("lending "+loan))) }

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
