package main

import (
	"debug/buildinfo"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/city-chain/holdfast/internal/service"
	"github.com/city-chain/holdfast/test/faults/check"
)

// Result is what a run has come to.
type Result struct {
	Seed     uint64         `json:"seed"`
	Servers  int            `json:"servers"`
	Workers  int            `json:"workers"` // at first
	Unfenced bool           `json:"unfenced"`
	Machine  string         `json:"machine"`
	Commit   string         `json:"commit"`             // that the aggregator was built from, "unknown" if that is not known
	Faults   map[string]int `json:"faults"`             // made, by kind
	Missed   map[string]int `json:"missed"`             // attempts at faults that came to nothing, by kind: not counted in Faults
	NotMade  []string       `json:"not_made,omitempty"` // kinds that cannot be made here, and faults that were given up; and why

	Events int64 `json:"events"` // sent and acknowledged, each counted once
	// EventsDuringFaults were sent and acknowledged when the last fault was mended.
	EventsDuringFaults int64  `json:"events_during_faults"`
	Stored             uint64 `json:"stored"`   // events in the streams, each time that they came
	Messages           uint64 `json:"messages"` // in the streams
	Resent             int64  `json:"resent"`   // messages sent again: on purpose, or since their outcome was not known
	Duplicates         uint64 `json:"duplicates"`
	Rejections         uint64 `json:"rejections"`
	Signed             uint64 `json:"signed"` // checkpoints, all of them verified
	Holders            int    `json:"holders"`
	Nodes              int    `json:"nodes"`
	Score              string `json:"score"` // of all holders, in 400 days

	Imports       int `json:"imports"` // of the bundled log
	ImportsKilled int `json:"imports_killed"`

	Minutes         float64 `json:"minutes"` // altogether
	MinutesOfFaults float64 `json:"minutes_of_faults"`
	StoodStill      float64 `json:"stood_still"`      // for so many seconds, at most, nothing of a partition was folded though it had messages
	StoodStillCalm  float64 `json:"stood_still_calm"` // the same, of times at which no server was broken, nor had been up to 10 s before
	SecondsToFold   float64 `json:"seconds_to_fold"`  // after the last fault was mended
	SecondsToCheck  float64 `json:"seconds_to_check"`

	Wrong         int      `json:"wrong"`         // how many disagreements, what went wrong besides included
	Damaged       int      `json:"damaged"`       // how many of these are not explained by what is not folded yet
	Disagreements []string `json:"disagreements"` // the first of them
}

func newResult(o *Options, not []string) *Result {
	return &Result{
		Seed: o.Seed, Servers: o.Servers, Workers: o.Workers, Unfenced: o.Unfenced, NotMade: not, Faults: map[string]int{}, Missed: map[string]int{},
		Machine:       fmt.Sprintf("%s/%s, %d processors, %s", runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version()),
		Disagreements: []string{},
	}
}

// finish takes up what the checker has found, and what went wrong besides.
func (r *Result) finish(report *check.Report, troubles []string, all time.Duration) {
	r.Stored, r.Messages, r.Duplicates, r.Rejections, r.Signed = report.Events, report.Messages, report.Duplicates, report.Rejections, report.Signed
	r.Holders, r.Nodes, r.Score = report.Holders, report.Nodes, report.Score
	r.Minutes = all.Minutes()
	r.Wrong, r.Damaged = report.Wrong+len(troubles), report.Damaged
	r.Disagreements = append(append(r.Disagreements, troubles...), report.Disagreements...)
}

// OK tells whether the run is good: nothing is wrong, or, without fencing, the checker has found damage.
func (r *Result) OK() bool {
	if r.Unfenced {
		return r.Damaged > 0
	}
	return r.Wrong == 0
}

// Print writes the result for people.
func (r *Result) Print(w io.Writer) {
	fencing := "fenced"
	if r.Unfenced {
		fencing = "NOT fenced"
	}
	total := 0
	for _, n := range r.Faults {
		total += n
	}
	fmt.Fprintf(w, "fault test, seed %d\n", r.Seed)
	fmt.Fprintf(w, "  commit %s\n", r.Commit)
	fmt.Fprintf(w, "  %s\n  NATS servers: %d, sync_interval always; workers at first: %d, %s\n", r.Machine, r.Servers, r.Workers, fencing)
	fmt.Fprintf(w, "faults              %12d\n", total)
	for _, name := range slices.Sorted(maps.Keys(r.Faults)) {
		fmt.Fprintf(w, "  %-28s %4d\n", name, r.Faults[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.Missed)) {
		fmt.Fprintf(w, "  %-28s %4d attempts came to nothing\n", name, r.Missed[name])
	}
	for _, not := range r.NotMade {
		fmt.Fprintf(w, "  not made: %s\n", not)
	}
	for _, line := range []struct {
		name  string
		value any
	}{
		{"events", r.Events}, {"  during the faults", r.EventsDuringFaults}, {"events stored", r.Stored}, {"duplicates", r.Duplicates}, {"rejections", r.Rejections}, {"signed checkpoints", r.Signed},
		{"messages", r.Messages}, {"sent again", r.Resent}, {"holders", r.Holders}, {"nodes", r.Nodes},
		{"imports of the log", r.Imports}, {"imports killed", r.ImportsKilled},
	} {
		fmt.Fprintf(w, "%-19s %12d\n", line.name, line.value)
	}
	fmt.Fprintf(w, "score in 400 days   %s\n", r.Score)
	fmt.Fprintf(w, "minutes             %12.1f (faults %.1f; then folded after %.0f s, checked in %.0f s)\n", r.Minutes, r.MinutesOfFaults, r.SecondsToFold, r.SecondsToCheck)
	fmt.Fprintf(w, "longest standstill  %12.1f s, of any partition, with the servers away included\n", r.StoodStill)
	fmt.Fprintf(w, "  with all servers  %12.1f s, of any partition, no server being broken nor having been within 10 s before\n", r.StoodStillCalm)
	fmt.Fprintf(w, "disagreements       %12d\n", r.Wrong)
	for _, d := range r.Disagreements {
		fmt.Fprintf(w, "  %s\n", d)
	}
	if more := r.Wrong - len(r.Disagreements); more > 0 {
		fmt.Fprintf(w, "  and %d more\n", more)
	}
	switch {
	case r.Unfenced && r.OK():
		fmt.Fprintln(w, "without fencing, the damage was found")
	case r.Unfenced:
		fmt.Fprintln(w, "without fencing, no damage was found: the checker or the load is too weak")
	}
}

// commitOf returns the commit that a program was built from, with "-dirty" behind it if files had been changed: as its build has it, or
// else (GOFLAGS may keep it out) as git says of the folder that it was built in.
func commitOf(program, folder string) string {
	if info, err := buildinfo.ReadFile(program); err == nil {
		if revision := service.BuildOf(info).Revision; revision != unknown {
			return revision
		}
	}
	revision, err := exec.Command("git", "-C", folder, "rev-parse", "HEAD").Output()
	if err != nil {
		return unknown
	}
	changed, err := exec.Command("git", "-C", folder, "status", "--porcelain", "--untracked-files=no").Output()
	if err != nil || len(changed) > 0 {
		return strings.TrimSpace(string(revision)) + "-dirty"
	}
	return strings.TrimSpace(string(revision))
}

// unknown stands for a commit that nobody knows.
const unknown = "unknown"

// moduleRoot is the folder that has go.mod, at or above the working directory.
func moduleRoot() string {
	folder, err := os.Getwd()
	if err != nil {
		return "."
	}
	for dir := folder; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			return folder
		}
	}
}
