package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// Print writes the result for people.
func (r *Result) Print(w io.Writer) {
	say := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	say("%d holders, %d events published meanwhile, for %v", r.Holders, r.Updated, r.Duration)
	say("idle connections %d, dawdlers %d, askers that do not read %d, scrapers that do not %d, readers %d, of whom %d never read", r.Idle, r.Dawdlers, r.Askers, r.Scrapers, r.Readers, r.Readers*3/10)
	say("")
	say("before  %v", r.Before)
	first, second := r.halves()
	say("peak    %v (for such clients at most %.0f MiB; with all there %.0f MiB at first, %.0f later)",
		r.Peak, r.bound(r.Before.Memory)/(1<<20), first/(1<<20), second/(1<<20))
	say("after   %v", r.After)
	say("cpu     %.2f of a core", r.CPU/r.Duration.Seconds())
	say("")
	say("scrapes: %d, failed %d, p50 %v, p99 %v, longest %v", len(r.Scrapes)+r.FailedScrapes, r.FailedScrapes, r.quantile(0.5), r.quantile(0.99), r.quantile(1))
	if r.Streams != nil {
		say("readers: %d messages; streams of readers who read that were ended %d; of those who do not, %d, with ENHANCE_YOUR_CALM %d; %d compared with /stats and /top, exactly",
			r.Streams.messages.Load(), r.Streams.ended.Load(), r.Streams.resets.Load(), r.Streams.calm.Load(), len(r.Streams.checked))
	}
	if r.Answers != nil {
		say("\nbad requests and what they came to:")
		r.Answers.mu.Lock()
		defer r.Answers.mu.Unlock()
		for _, kind := range slices.Sorted(maps.Keys(r.Answers.right)) {
			say("%8d  %s", r.Answers.right[kind], kind)
		}
		for _, kind := range slices.Sorted(maps.Keys(r.Answers.wrong)) {
			say("%8d  %s  WRONG", r.Answers.wrong[kind], kind)
		}
	}
}

// quantile returns how long a share of the scrapes took at most.
func (r *Result) quantile(q float64) time.Duration {
	if len(r.Scrapes) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(r.Scrapes))
	return sorted[int(q*float64(len(sorted)-1))].Round(100 * time.Microsecond)
}
