package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Options say what comes at the exporter.
type Options struct {
	Holders  int
	Updates  int // events a second
	Idle     int // connections
	Dawdlers int // connections
	Askers   int // connections
	Loops    int // clients
	Readers  int // streams of Broadcast
	Duration time.Duration
	Logf     func(format string, args ...any)
}

// What the exporter may take, above what it took at rest. Its limits: 4,096 connections to each of two addresses, 2,000 readers
// of whom each has a message of 64 KiB, twice (made, and on its way), 64 MiB of messages that readers share, and 64 answers
// of up to 10,000 holders, of some 8 MiB while they are made. The garbage collector lets the heap double.
const (
	connectionBytes = 32 << 10
	readerBytes     = 192 << 10
	sharedBytes     = 64 << 20
	answerBytes     = 8 << 20
	collectorFactor = 2
)

// bound returns how much memory an exporter may take that took so much at rest, in bytes.
func (o *Options) bound(atRest float64) float64 {
	connections := min(o.Idle+o.Dawdlers+o.Askers, 2*4096) + o.Readers
	return collectorFactor * (atRest + float64(connections*connectionBytes+o.Readers*readerBytes+sharedBytes+64*answerBytes))
}

// Result is what was measured.
type Result struct {
	Options
	Before, After Sample
	Peak          Sample  // the most of each
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
	o.Logf("filling in %d holders", o.Holders)
	if err := rig.fill(ctx, o.Holders); err != nil {
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
			r.Peak = r.Peak.most(s)
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
		wrong = append(wrong, fmt.Errorf("the exporter took %.0f MiB; its limits permit %.0f", r.Peak.Memory/(1<<20), most/(1<<20)))
	}
	for what, n := range r.Answers.unexpected() {
		wrong = append(wrong, fmt.Errorf("%d bad requests came to %s", n, what))
	}
	return errors.Join(wrong...)
}
