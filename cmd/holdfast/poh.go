package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
)

// proofs shows what the nodes did.
type proofs struct {
	N int `name:"n" help:"How many series of HTTP requests, and of gRPC calls: those with the most." default:"10"`
	exporter
}

// Validate is called when the flags are parsed.
func (p proofs) Validate() error { return errors.Join(validateN(p.N), p.exporter.Validate()) }

func (p *proofs) run(ctx context.Context, s *session) error {
	var a nodesAnswer
	return p.show(ctx, s, "/poh", url.Values{"n": {strconv.Itoa(p.N)}}, &a, func() []line { return nodesLines(&a) })
}

// nodesLines is what the nodes did: totals, and then a table for each thing that takes time.
func nodesLines(a *nodesAnswer) []line {
	t := table{align: "ll"}
	t.add("nodes", number(a.Nodes))
	t.add("active peers", fmt.Sprintf("%s, as %s reported last", a.ActivePeers, count(int64(a.ReportingNodes), "node")))
	t.add("garbage collections", fmt.Sprintf("%d minor, %d major", a.GC["minor"], a.GC["major"]))
	t.add("HTTP requests", number(a.HTTP.Requests))
	t.add("gRPC calls", number(a.GRPC.Requests))

	proofs := table{align: "lrrrrrr", head: true}
	proofs.add("proofs", "count", "p50", "p90", "p99", "max", "mean")
	for _, kind := range []struct {
		name     string
		byResult map[string]latenciesAnswer
	}{{"issued", a.Issued}, {"verified", a.Verified}} {
		for _, result := range []string{"success", "failure"} {
			proofs.add(append([]string{kind.name + ", " + result}, latencyCells(kind.byResult[result])...)...)
		}
		if l, ok := kind.byResult["unknown"]; ok { // latencies alone, of proofs that were counted apart
			cells := append([]string{kind.name + ", result not told"}, latencyCells(l)...)
			cells[1] = "-"
			proofs.add(cells...)
		}
	}
	lines := slices.Concat(t.lines(""), []line{{}}, proofs.lines(""))
	lines = append(lines, requestsLines("HTTP request", a.HTTP, func(s *seriesAnswer) string {
		return fmt.Sprintf("%s %s %d", shown(s.Method), shown(s.Route), s.Status)
	})...)
	return append(lines, requestsLines("gRPC call", a.GRPC, func(s *seriesAnswer) string {
		return fmt.Sprintf("%s %s", shown(s.Method), shown(s.Code))
	})...)
}

// requestsLines is a table of series, if there are any, and what it leaves out.
func requestsLines(what string, r requestsAnswer, name func(*seriesAnswer) string) []line {
	if len(r.Series) == 0 {
		return nil
	}
	t := table{align: "rrrrrrl", head: true}
	t.add("count", "p50", "p90", "p99", "max", "mean", what)
	for i := range r.Series {
		t.add(append(latencyCells(r.Series[i].latenciesAnswer), name(&r.Series[i]))...)
	}
	lines := append([]line{{}}, t.lines("")...)
	if r.OmittedSeries > 0 {
		lines = append(lines, line{text: fmt.Sprintf("and %d more series, with %d; --n shows more", r.OmittedSeries, r.OmittedRequests)})
	}
	return lines
}

// latencyCells are how often, and how long it took, as far as that is known.
func latencyCells(l latenciesAnswer) []string {
	var mean *float64
	if l.Latency.Count > 0 {
		m := l.Latency.Sum / float64(l.Latency.Count)
		mean = &m
	}
	return []string{number(l.Count), latency(l.Latency.P50), latency(l.Latency.P90), latency(l.Latency.P99), latency(l.Latency.Max), latency(mean)}
}
