package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/city-chain/holdfast/pkg/events"
)

// foldReasons are those for which an importer refuses no line.
func foldReason(name string) bool {
	for reason := events.StartAhead + 1; reason.Valid(); reason++ {
		if reason.String() == name {
			return true
		}
	}
	return false
}

// scriptServed waits until the exporter serves exactly what runs of holdfast generate said that their events come to.
func scriptServed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: served FILE...")
	}
	want := totalsAnswer{Refused: map[string]uint64{}, Accepted: map[string]uint64{}}
	score, at := new(big.Rat), ""
	for _, file := range args {
		var m madeAnswer
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(file)), &m))
		if !m.Complete || m.Expected == nil || at != "" && m.Expected.At != at {
			ts.Fatalf("%s: not complete, or not of the same instant as the others", file)
		}
		at = m.Expected.At
		want.Holders += m.Expected.Holders
		want.Holds += m.Expected.Holds
		want.Unchanged += m.Repeated
		one, ok := new(big.Rat).SetString(m.Expected.ScoreExact)
		if !ok {
			ts.Fatalf("%s: a score of %q", file, m.Expected.ScoreExact)
		}
		score.Add(score, one)
		for reason, n := range m.Expected.Refused {
			if !m.Options.Lines || foldReason(reason) { // a file's other events do not get so far
				want.Refused[reason] += n
			}
		}
		for what, n := range m.Expected.Reports {
			kind, _, _ := strings.Cut(what, " ")
			want.Accepted[kind] += n
		}
	}
	var diff string
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patienceOfScripts); time.Now().Before(deadline); <-tick.C {
		if err := ts.Exec("holdfast", "stats", "--json", "--exporter", ts.Getenv("EXPORTER"), "--at", at); err != nil {
			diff = fmt.Sprint(err)
			continue
		}
		var got totalsAnswer
		ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &got))
		maps.DeleteFunc(got.Accepted, func(kind string, n uint64) bool {
			k, err := events.ParseKind(kind)
			return err != nil || k.IsHold() || n == 0
		})
		is, _ := new(big.Rat).SetString(got.ScoreExact)
		if diff = cmp.Diff(want, totalsAnswer{Holders: got.Holders, Holds: got.Holds, Unchanged: got.Unchanged, Refused: got.Refused, Accepted: got.Accepted},
			cmp.AllowUnexported(moment{})); diff == "" && is != nil && is.Cmp(score) == 0 {
			return
		}
		diff += fmt.Sprintf("score %s, want %s", got.ScoreExact, score.FloatString(12))
	}
	ts.Fatalf("what is served (-want +got): %s", diff)
}

// scriptImported makes sure that the import that has just ended took and refused what holdfast generate said that it would.
func scriptImported(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: imported FILE")
	}
	var m madeAnswer
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &m))
	refused := m.Expected.RefusedLines
	if want := fmt.Sprintf(": %d events imported", uint64(m.Events)-refused); !strings.Contains(ts.ReadFile("stdout"), want) {
		ts.Fatalf("no %q", want)
	}
	if want := fmt.Sprintf(": %d lines refused", refused); refused == 0 || !strings.Contains(ts.ReadFile("stderr"), want) {
		ts.Fatalf("no %q", want)
	}
}
