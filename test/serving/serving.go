package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// Options say what comes at the exporter.
type Options struct {
	Holders  int
	Routes   int // of HTTP requests that nodes answered, each a histogram in the exposition
	Updates  int // events a second
	Idle     int // connections
	Dawdlers int // connections
	Askers   int // connections
	Scrapers int // connections
	Loops    int // clients
	Readers  int // streams of Broadcast
	Duration time.Duration
	Logf     func(format string, args ...any)
}

// What the exporter takes above what it took at rest, as the runs in bench/results/serving.txt had it, garbage that is not
// collected yet with it: for each connection, the bodies and answers of all those among them; for each reader of Broadcast; and for
// each scraper that does not read. The exporter's limits permit more (64 MiB of messages that readers share, 64 answers of 8 MiB at
// a time), so they would not show that a client costs half as much again as it did.
const (
	connectionBytes = 45 << 10
	readerBytes     = 200 << 10
	scraperBytes    = 8 << 20  // an exposition with 1,800 routes, and what it was encoded in
	connectionsMost = 2 * 4096 // to two addresses
)

const (
	noise  = 1.4 // what is taken varies by that, with the machine and with when the collector comes
	growth = 1.5 // so much more may be taken in the second half of the time with all clients there than in the first
)

// bound returns how much memory an exporter may take that took so much at rest, in bytes.
func (o *Options) bound(atRest float64) float64 {
	connections := min(o.Idle+o.Dawdlers+o.Askers+o.Scrapers, connectionsMost) + o.Readers
	return noise * (atRest + float64(connections*connectionBytes+o.Readers*readerBytes+o.Scrapers*scraperBytes))
}

// Result is what was measured.
type Result struct {
	Options
	Before, After Sample
	Peak          Sample // the most of each
	Samples       []Sample
	CPU           float64 // seconds that the exporter computed while the clients were there
	Scrapes       []time.Duration
	FailedScrapes int
	Answers       *answers // to bad requests
	Streams       *readers
	Updated       int64
}

// Run does all of it. The result is nil if it did not come to that.
func Run(ctx context.Context, o Options) (*Result, error) {
	folder, err := os.MkdirTemp("", "holdfast-serving-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	rig, err := startRig(ctx, folder, o.Logf)
	if err != nil {
		return nil, err
	}
	defer rig.stop()
	o.Logf("filling in %d holders and %d routes", o.Holders, o.Routes)
	if err := rig.fill(ctx, o.Holders, o.Routes); err != nil {
		return nil, err
	}
	result := &Result{Options: o}
	if result.Before, err = rig.settled(ctx); err != nil {
		return nil, err
	}
	o.Logf("at rest: %v", result.Before)

	scraping, stopScraping := context.WithCancel(ctx)
	defer stopScraping()
	var scraper sync.WaitGroup
	scraper.Go(func() { result.scrape(scraping, rig) })
	attack, stopAttack := context.WithTimeout(ctx, o.Duration)
	defer stopAttack()
	var clients sync.WaitGroup
	clients.Go(func() { result.Updated = rig.update(attack, o.Updates, o.Holders) })
	result.Answers = startBadClients(attack, &clients, rig, &o)
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	if result.Streams, err = startReaders(reading, rig, &o); err != nil {
		return nil, err
	}
	clients.Wait()
	o.Logf("the clients are gone")
	if now, err := rig.sample(ctx); err == nil {
		result.CPU = now.CPU - result.Before.CPU
	}
	wrong := result.Streams.check(ctx, rig)
	stopReading()
	result.Streams.running.Wait()
	stopScraping()
	scraper.Wait()
	if result.After, err = rig.settledNear(ctx, result.Before); err != nil {
		wrong = errors.Join(wrong, err)
	}
	return result, errors.Join(wrong, result.verdict())
}

// scrape scrapes every second until ctx is done.
func (r *Result) scrape(ctx context.Context, rig *rig) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		began := time.Now()
		s, err := rig.sample(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			r.Logf("scrape: %v", err)
			r.FailedScrapes++
		default:
			r.Scrapes = append(r.Scrapes, time.Since(began))
			r.Peak, r.Samples = r.Peak.most(s), append(r.Samples, s)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// verdict says what is not as it must be.
func (r *Result) verdict() error {
	var wrong []error
	if r.FailedScrapes > 0 || len(r.Scrapes) == 0 {
		wrong = append(wrong, fmt.Errorf("%d of %d scrapes failed", r.FailedScrapes, len(r.Scrapes)+r.FailedScrapes))
	}
	if most := r.bound(r.Before.Memory); r.Peak.Memory > most {
		wrong = append(wrong, fmt.Errorf("the exporter took %.0f MiB; for such clients it may take %.0f", r.Peak.Memory/(1<<20), most/(1<<20)))
	}
	if first, second := r.halves(); second > growth*first {
		wrong = append(wrong, fmt.Errorf("the exporter took up to %.0f MiB at first and %.0f later, though no more clients had come", first/(1<<20), second/(1<<20)))
	}
	for what, n := range r.Answers.unexpected() {
		wrong = append(wrong, fmt.Errorf("%d bad requests came to %s", n, what))
	}
	return errors.Join(wrong...)
}

// halves returns the most memory that was taken in the first and in the second half of the time in which nearly all clients were
// there, in bytes; 0, 0 if there were too few scrapes in it to say.
func (r *Result) halves() (first, second float64) {
	full := slices.DeleteFunc(slices.Clone(r.Samples), func(s Sample) bool { return s.Connections < 0.9*r.Peak.Connections })
	if len(full) < 6 {
		return 0, 0
	}
	for i, s := range full {
		if i < len(full)/2 {
			first = max(first, s.Memory)
		} else {
			second = max(second, s.Memory)
		}
	}
	return first, second
}
