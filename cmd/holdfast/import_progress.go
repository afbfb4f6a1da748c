package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/city-chain/holdfast/internal/importer"
)

// tellEvery is how often progress is told where nobody watches a bar, in a log.
const tellEvery = 10 * time.Second

// progressDisplay shows the progress of one file after the other: by a bar if standard error is a terminal, else by a line now
// and then.
type progressDisplay struct {
	*session
	follow bool // it has no end

	file  string
	began time.Time
	first importer.Progress // of this run
	told  time.Time
	bar   *progressbar.ProgressBar
}

func (d *progressDisplay) show(p importer.Progress) {
	now := time.Now()
	if d.file != p.File || d.began.IsZero() {
		d.clear()
		d.file, d.began, d.first, d.told = p.File, now, p, now
	}
	if isTerminal(d.stderr) {
		d.draw(p, now)
		return
	}
	if now.Sub(d.told) >= tellEvery {
		d.told = now
		fmt.Fprintln(d.stderr, d.line(p, now))
	}
}

// draw draws the bar, which tells the time that is left by itself.
func (d *progressDisplay) draw(p importer.Progress, now time.Time) {
	read, total := extent(p)
	if d.bar == nil {
		if total == 0 || d.follow {
			total = -1 // unknown
		}
		d.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(d.stderr),
			progressbar.OptionShowBytes(p.MessagesTotal == 0 && p.MessagesRead == 0),
			progressbar.OptionShowElapsedTimeOnFinish(),
			progressbar.OptionClearOnFinish(),
		)
	}
	_ = d.bar.Set64(read) // it fails on a bar that is complete
	d.bar.Describe(fmt.Sprintf("%s: %s, %s", filepath.Base(p.File), count(p.Events, "event"), d.rate(p, now)))
}

// line is the progress as a line of a log.
func (d *progressDisplay) line(p importer.Progress, now time.Time) string {
	parts := []string{count(p.Events, "event")}
	if p.Refused > 0 {
		parts = append(parts, fmt.Sprintf("%d refused", p.Refused))
	}
	parts = append(parts, d.rate(p, now))
	read, total := extent(p)
	if total > 0 && !d.follow {
		parts = append(parts, fmt.Sprintf("%d%% read", min(100, 100*read/total)))
	}
	if left := d.left(p, now); left > 0 {
		parts = append(parts, fmt.Sprintf("about %s left", left))
	}
	return fmt.Sprintf("%s: %s", p.File, strings.Join(parts, ", "))
}

// rate says how many events a second this run has imported.
func (d *progressDisplay) rate(p importer.Progress, now time.Time) string {
	seconds := now.Sub(d.began).Seconds()
	if seconds < 0.1 {
		return "0 events/s"
	}
	return fmt.Sprintf("%.0f events/s", float64(p.Events-d.first.Events)/seconds)
}

// left is how long the rest takes at the speed of this run, 0 if that is unknown.
func (d *progressDisplay) left(p importer.Progress, now time.Time) time.Duration {
	read, total := extent(p)
	began, _ := extent(d.first)
	if d.follow || total == 0 || read <= began {
		return 0
	}
	each := float64(now.Sub(d.began)) / float64(read-began)
	return time.Duration(each * float64(max(total-read, 0))).Round(time.Second)
}

// extent is how much is read and how much there is, in bytes or messages.
func extent(p importer.Progress) (read, total int64) {
	return p.BytesRead + p.MessagesRead, p.BytesTotal + p.MessagesTotal // of which one pair is 0
}

// clear takes the bar away.
func (d *progressDisplay) clear() {
	if d.bar != nil {
		_ = d.bar.Clear()
		d.bar = nil
	}
}
