package importer

import (
	"fmt"
	"maps"
	"runtime"
	"strings"
	"testing"
)

// FuzzDeltas: no row breaks the accounts; one that is refused changes nothing, one that is taken comes to a valid event with the
// balance; and rows that are read again come to the same balances.
func FuzzDeltas(f *testing.F) {
	seeds := []string{
		"1,a,t,2\n1,a,t,-1\n1,a,t,-2\n0,a,t,1", "2000000301,a,t,7\n2000000300,a,t,7\n", "1,a,t,79228162514264337593543950336\n1,a,t,1\n1,a,t,-1e28",
		"\"1\",\"a\"\"\",\"t\n\",1\n", "1,zero,t,-5\n,zero\n", "1,a,t,0.000000001\r\n\r\n1,a,t,-.000000001\r", "1,,,\n", "\x00,a,t,1",
	}
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rec := &deltasRecord{Ignored: []string{"zero"}}
		first := newAccounts(rec, 3)
		var b block
		b.reset(readClock)
		lines := rowsOf(t, first, text, &b)
		if int(b.totals.Events) != len(b.holds) {
			t.Fatalf("%d events, counted as %d", len(b.holds), b.totals.Events)
		}
		rec.Ahead = b.ahead
		again := newAccounts(rec, 3)
		again.again = true
		var other block
		other.reset(0)
		if rowsOf(t, again, text, &other) != lines || !maps.Equal(first.balances, again.balances) || b.totals != other.totals {
			t.Fatalf("%q, read again: %v %+v, first %v %+v", text, again.balances, other.totals, first.balances, b.totals)
		}
	})
}

// rowsOf reads rows until they end or cannot be taken, and returns how many were.
func rowsOf(t *testing.T, a *accounts, text string, b *block) int {
	a.order = deltaOrder{deltaTime, deltaHolder, deltaToken, deltaChange}
	for line := int64(1); ; line++ {
		if text == "" {
			return int(line)
		}
		before, events, skipped := maps.Clone(a.balances), b.totals.Events, b.totals.Skipped
		length, refusal := a.read(text[:min(len(text), MaxLine)], line, b)
		if length <= 0 || length > len(text) || strings.Contains(text[:length-1], "\n") {
			t.Fatalf("a row of %d bytes of %q", length, text)
		}
		taken := b.totals.Events - events
		if refusal != nil {
			b.totals.Refused++
		}
		if taken == 0 && !maps.Equal(before, a.balances) || refusal != nil && taken+b.totals.Skipped-skipped > 0 {
			t.Fatalf("%q was not taken (%v), and changed balances from %v to %v", text[:length], refusal, before, a.balances)
		}
		if taken == 1 && !a.again {
			e := b.holds[len(b.holds)-1]
			key, _ := a.pair(e.Holder, e.Token)
			if err := e.Validate(); err != nil || a.balances[key] != (balance{e.Weight, e.Start}) {
				t.Fatalf("%q came to %+v (%v), the balance is %+v", text[:length], e, err, a.balances[key])
			}
		}
		if a.err != nil {
			return int(line)
		}
		text = text[length:]
	}
}

// BenchmarkDeltas reads rows of holders of their own, with ids as long as an address of Ethereum, and tells what a balance takes in
// memory with the id of its holder.
func BenchmarkDeltas(b *testing.B) {
	const rows = 500_000
	var text strings.Builder
	for i := range rows {
		fmt.Fprintf(&text, "%d,0x%040x,gold,1.5\n", i, i)
	}
	size := text.Len()
	var before, after runtime.MemStats
	for b.Loop() {
		rest := text.String()
		var into block
		into.reset(readClock)
		runtime.GC()
		runtime.ReadMemStats(&before)
		a := newAccounts(&deltasRecord{}, rows)
		a.order = deltaOrder{deltaTime, deltaHolder, deltaToken, deltaChange}
		for line := int64(1); rest != ""; line++ {
			n, refusal := a.read(rest[:min(len(rest), MaxLine)], line, &into)
			if refusal != nil || a.err != nil {
				b.Fatal(refusal, a.err)
			}
			rest = rest[n:]
			into.holds = into.holds[:0]
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(a)
	}
	b.SetBytes(int64(size))
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/rows, "B/balance")
	b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
