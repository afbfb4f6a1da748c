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
	o := Options{Holders: 20_000, Updates: 5000, Idle: 9000, Dawdlers: 200, Askers: 100, Loops: 2, Readers: 300, Duration: 15 * time.Second, Logf: t.Logf}
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
