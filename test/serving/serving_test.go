package main

import (
	"flag"
	"testing"
	"time"
)

// whole has the exporter served at in earnest, which takes a machine a minute.
var whole = flag.Bool("serving", false, "run the load test, in short")

func TestServing(t *testing.T) {
	if !*whole {
		t.Skip("NOT CHECKED, as it takes a minute: that an exporter serves on whatever its clients do. To check: go test -count=1 -v ./test/serving -serving")
	}
	o := Options{Holders: 20_000, Routes: 1800, Updates: 5000, Idle: 9000, Dawdlers: 200, Askers: 100, Scrapers: 8, Loops: 2, Readers: 300, Duration: 15 * time.Second, Logf: t.Logf}
	result, err := Run(t.Context(), o)
	if result != nil {
		result.Print(t.Output())
	}
	if err != nil {
		t.Error(err)
	}
}

// A scrape of a process that is past its limits, or that fails, is noticed.
func TestVerdict(t *testing.T) {
	fine := func() *Result {
		return &Result{
			Options: Options{Readers: 10}, Before: Sample{Memory: 1 << 20}, Peak: Sample{Memory: 2 << 20},
			Scrapes: []time.Duration{time.Millisecond}, Answers: &answers{},
		}
	}
	if err := fine().verdict(); err != nil {
		t.Errorf("nothing is wrong: %v", err)
	}
	for name, spoil := range map[string]func(*Result){
		"memory":   func(r *Result) { r.Peak.Memory = 1 << 34 },
		"growth":   func(r *Result) { r.Samples = grown(6) },
		"a scrape": func(r *Result) { r.FailedScrapes = 1 },
		"none":     func(r *Result) { r.Scrapes = nil },
		"answers":  func(r *Result) { r.Answers.wrong = map[string]int{"a header: 500": 1} },
	} {
		r := fine()
		spoil(r)
		if r.verdict() == nil {
			t.Errorf("%s: nothing is noticed", name)
		}
	}
}

// grown is what a process looks like whose memory grows and grows, from 1 KiB on.
func grown(scrapes int) (all []Sample) {
	for i := range scrapes {
		all = append(all, Sample{Memory: float64(int64(1024) << i)})
	}
	return all
}

// What the recorded runs took is within the bound, and half as much again is not.
func TestBound(t *testing.T) {
	const mib = 1 << 20
	for name, run := range map[string]struct {
		Options
		rest, peak float64
	}{
		"bench/results/serving.txt, the first": {Options{Idle: 10_000, Dawdlers: 500, Askers: 300, Readers: 1000}, 50 * mib, 657 * mib},
		"the second":                           {Options{Readers: 1000}, 50 * mib, 295 * mib},
		"in short, beside ten other processes": {Options{Idle: 9000, Dawdlers: 200, Askers: 100, Readers: 300}, 38 * mib, 541 * mib},
		"with scrapers that do not read":       {Options{Idle: 9000, Dawdlers: 200, Askers: 100, Scrapers: 8, Readers: 300}, 42 * mib, 648 * mib},
	} {
		if most := run.bound(run.rest); most < 1.1*run.peak || most >= 1.5*run.peak {
			t.Errorf("%s: it took %.0f MiB, and the bound is %.0f", name, run.peak/mib, most/mib)
		}
	}
}

// Memory that the first half has had may be had again; what comes before all clients are there, and few scrapes, say nothing.
func TestHalves(t *testing.T) {
	r := Result{Peak: Sample{Connections: 100}}
	add := func(connections float64, memory ...float64) {
		for _, m := range memory {
			r.Samples = append(r.Samples, Sample{Connections: connections, Memory: m})
		}
	}
	add(50, 1, 2, 3)
	add(95, 7, 30, 9, 31, 8)
	if first, second := r.halves(); first != 0 || second != 0 {
		t.Errorf("of five scrapes: %v, %v", first, second)
	}
	add(100, 29)
	add(10, 90)
	if first, second := r.halves(); first != 30 || second != 31 {
		t.Errorf("of six scrapes: %v, %v", first, second)
	}
}
