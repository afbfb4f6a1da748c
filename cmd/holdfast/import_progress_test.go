package main

import (
	"strings"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/importer"
)

func TestProgressLine(t *testing.T) {
	began := time.Unix(1000, 0)
	at := func(read, events, refused int64) importer.Progress {
		return importer.Progress{File: "dir/f.csv", BytesRead: read, BytesTotal: 1000, Totals: importer.Totals{Events: events, Refused: refused}}
	}
	stream := importer.Progress{File: "ORDERS", MessagesRead: 50, MessagesTotal: 200, Totals: importer.Totals{Events: 100}}
	for _, c := range []struct {
		first, now importer.Progress
		follow     bool
		after      time.Duration
		want       string
	}{
		{at(0, 0, 0), at(0, 0, 0), false, 0, "dir/f.csv: 0 events, 0 events/s, 0% read"},
		{at(0, 0, 0), at(250, 1, 0), false, 10 * time.Second, "dir/f.csv: 1 event, 0 events/s, 25% read, about 30s left"},
		{at(500, 900, 1), at(750, 1000, 2), false, 10 * time.Second, "dir/f.csv: 1000 events, 2 refused, 10 events/s, 75% read, about 10s left"},
		{at(500, 900, 0), at(1000, 1000, 0), false, 20 * time.Second, "dir/f.csv: 1000 events, 5 events/s, 100% read"},
		{at(0, 0, 0), at(1000, 1000, 0), true, 20 * time.Second, "dir/f.csv: 1000 events, 50 events/s"},
		{importer.Progress{File: "-"}, importer.Progress{File: "-", BytesRead: 70, Totals: importer.Totals{Events: 7}}, false, time.Second, "-: 7 events, 7 events/s"},
		{importer.Progress{File: "ORDERS", MessagesTotal: 200}, stream, false, time.Minute, "ORDERS: 100 events, 2 events/s, 25% read, about 3m0s left"},
	} {
		d := &progressDisplay{follow: c.follow, file: c.first.File, began: began, first: c.first}
		if got := d.line(c.now, began.Add(c.after)); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// TestProgressInLog: where nobody watches, a line is told every now and then, not at every step.
func TestProgressInLog(t *testing.T) {
	var log strings.Builder
	d := &progressDisplay{session: &session{stderr: &log}}
	p := importer.Progress{File: "f.csv", BytesTotal: 100}
	for range 3 {
		d.show(p)
	}
	if log.Len() > 0 {
		t.Errorf("told at once: %s", log.String())
	}
	d.told = d.told.Add(-2 * tellEvery)
	for range 3 {
		d.show(p)
	}
	if got := strings.Count(log.String(), "\n"); got != 1 {
		t.Errorf("%d lines: %s", got, log.String())
	}
}
