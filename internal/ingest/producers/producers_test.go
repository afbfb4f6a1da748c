package producers

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func TestFind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "producers.yaml")
	text := "producers:\n- {name: a, token-sha256: [" + sumOf("s3cret") + ", " + sumOf("old") + "]}\n- {name: b, token-sha256: " + sumOf("other") + "}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	known, err := New(Options{File: path})
	if err != nil {
		t.Fatal(err)
	}
	open, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		header http.Header
		want   string  // the producer
		denied *Denied // or why not, without its message
	}{
		{http.Header{"Authorization": {"Bearer s3cret"}}, "a", nil},
		{http.Header{"Authorization": {"bearer  old "}}, "a", nil},
		{http.Header{"Authorization": {"Bearer other"}}, "b", nil},
		{http.Header{"Authorization": {"Bearer other"}, NameHeader: {"b"}}, "b", nil},
		{http.Header{"Authorization": {"Bearer other"}, NameHeader: {"a"}}, "", &Denied{Producer: "b", Reason: OtherName}},
		{http.Header{"Authorization": {"Bearer other"}, NameHeader: {"b", "a"}}, "", &Denied{Producer: "b", Reason: OtherName}},
		{http.Header{"Authorization": {"Bearer other"}, NameHeader: {""}}, "", &Denied{Producer: "b", Reason: OtherName}},
		{nil, "", &Denied{Producer: Anonymous, Reason: NoToken}},
		{http.Header{"Authorization": {"Bearer "}}, "", &Denied{Producer: Anonymous, Reason: NoToken}},
		{http.Header{"Authorization": {"Basic s3cret"}}, "", &Denied{Producer: Anonymous, Reason: NoToken}},
		{http.Header{"Authorization": {"s3cret"}}, "", &Denied{Producer: Anonymous, Reason: NoToken}},
		{http.Header{"Authorization": {"Bearer s3cret", "Bearer other"}}, "", &Denied{Producer: Anonymous, Reason: NoToken}},
		{http.Header{"Authorization": {"Bearer s3cre"}}, "", &Denied{Producer: Anonymous, Reason: UnknownToken}},
		{http.Header{"Authorization": {"Bearer " + sumOf("s3cret")}}, "", &Denied{Producer: Anonymous, Reason: UnknownToken}},
		{http.Header{"Authorization": {"Bearer x"}, NameHeader: {"a"}}, "", &Denied{Producer: Anonymous, Reason: UnknownToken}},
	} {
		p, err := known.Find(test.header)
		denied, _ := errors.AsType[*Denied](err)
		if diff := cmp.Diff(test.denied, denied, cmpopts.IgnoreUnexported(Denied{})); diff != "" {
			t.Errorf("%v (-want +got):\n%s", test.header, diff)
		}
		if err == nil && p.Name() != test.want || err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v: %v, %v; want %s", test.header, p, err, test.want)
		}
		if p, err := open.Find(test.header); err != nil || p.Name() != Anonymous {
			t.Errorf("%v, where nobody is asked: %v, %v", test.header, p, err)
		}
	}
}

// clock is one that tests set.
type clock struct{ at atomic.Int64 } // nanoseconds

func (c *clock) now() time.Time           { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(by time.Duration) { c.at.Add(int64(by)) }

func one(t interface{ Fatal(...any) }, l Limits, now func() time.Time) *Producer {
	s, err := New(Options{Limits: l, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return s.All()[0]
}

// ask asks for events of these holders.
func ask(p *Producer, holders ...string) *OverLimit {
	r, err := p.Request(len(holders))
	if err == nil {
		for _, holder := range holders {
			r.Holder(holder)
		}
		err = r.Take()
	}
	over, _ := errors.AsType[*OverLimit](err)
	return over
}

// attempt is one that passed.
type attempt struct {
	at                   time.Duration
	events, fresh, bytes int64
}

// Whatever is sent whenever, over no span of time more passes than the rates and bursts permit. What is refused takes nothing, is
// refused for a limit that it is over indeed, passes after the time that it was told, and not before.
func TestLimitsAreKept(t *testing.T) {
	rates := rapid.Custom(func(t *rapid.T) Rate {
		r := Rate{PerSecond: rapid.SampledFrom([]float64{0, 0.3, 1, 7, 12.5, 1000}).Draw(t, "rate")}
		if r.PerSecond > 0 {
			r.Burst = rapid.IntRange(1, 40).Draw(t, "burst")
		}
		return r
	})
	rapid.Check(t, func(t *rapid.T) {
		l := Limits{Events: rates.Draw(t, "events"), New: rates.Draw(t, "new"), Bytes: rates.Draw(t, "bytes"), Remember: 1000}
		c := &clock{}
		p := one(t, l, c.now)
		came := map[string]bool{}
		var passed []attempt
		takeBytes := func(n int64) *OverLimit {
			over, _ := errors.AsType[*OverLimit](p.TakeBytes(n))
			if over == nil {
				passed = append(passed, attempt{at: time.Duration(c.at.Load()), bytes: n})
			}
			return over
		}
		take := func(holders []string) *OverLimit {
			over := ask(p, holders...)
			if over == nil {
				a := attempt{at: time.Duration(c.at.Load()), events: int64(len(holders))}
				for _, holder := range holders {
					if !came[holder] {
						came[holder] = true
						a.fresh++
					}
				}
				passed = append(passed, a)
			}
			return over
		}
		for range rapid.IntRange(1, 40).Draw(t, "requests") {
			c.advance(time.Duration(rapid.SampledFrom([]int64{0, 1, 1e6, 3e8, 1e9, 1e10}).Draw(t, "pause")))
			holders := make([]string, rapid.IntRange(0, 45).Draw(t, "size"))
			for i := range holders {
				holders[i] = fmt.Sprint(rapid.IntRange(0, 200).Draw(t, "holder"))
			}
			attempt := func() *OverLimit { return take(holders) }
			if bytes := rapid.Int64Range(0, 45).Draw(t, "bytes"); rapid.Bool().Draw(t, "of bytes") {
				attempt = func() *OverLimit { return takeBytes(bytes) }
			}
			over := attempt()
			if over == nil {
				continue
			}
			checkRefusal(t, l, over)
			if again := attempt(); !cmp.Equal(over, again) {
				t.Fatalf("refused %+v, and at the same instant %+v", over, again)
			}
			// who does as he is told is done soon: each limit has him wait once at most, and what never passes is said to be so
			for n := 0; over != nil && over.Wait > 0; n++ {
				c.advance(over.Wait)
				later := attempt()
				if n == 2 || later != nil && later.Limit == over.Limit && later.Wait > 0 {
					t.Fatalf("refused %+v, and after that time %+v", over, later)
				}
				over = later
			}
		}
		for i := range passed {
			var sum attempt
			for _, a := range passed[i:] {
				sum.events, sum.fresh, sum.bytes = sum.events+a.events, sum.fresh+a.fresh, sum.bytes+a.bytes
				span := (a.at - passed[i].at).Seconds()
				for _, x := range []struct {
					rate  Rate
					count int64
				}{{l.Events, sum.events}, {l.New, sum.fresh}, {l.Bytes, sum.bytes}} {
					if x.rate.PerSecond > 0 && float64(x.count) > x.rate.PerSecond*span+float64(x.rate.Burst)+2e-6 {
						t.Fatalf("%d passed within %v s at %+v: %+v", x.count, span, x.rate, passed[i:])
					}
				}
			}
		}
	})
}

func checkRefusal(t *rapid.T, l Limits, over *OverLimit) {
	r := map[string]Rate{EventsLimit: l.Events, NewLimit: l.New, BytesLimit: l.Bytes}[over.Limit]
	switch {
	case over.Rate != r, r.PerSecond == 0, over.Producer != Anonymous:
		t.Fatalf("%+v, where the limit is %+v", over, r)
	case over.Asked <= over.Left, over.Left < 0, over.Left > int64(r.Burst):
		t.Fatalf("%+v is within what is left", over)
	case (over.Wait == 0) != (over.Asked > int64(r.Burst)):
		t.Fatalf("%+v: it can pass only if it is not over the burst", over)
	case over.Wait < 0, over.Wait.Seconds() > float64(r.Burst)/r.PerSecond+0.001:
		t.Fatalf("%+v: a full bucket takes less", over)
	}
	// a millisecond less, and it would lack some
	if least := (float64(over.Asked-over.Left)-1)/r.PerSecond - 0.001; over.Wait != 0 && over.Wait.Seconds() < least {
		t.Fatalf("%+v: it takes %v s at least", over, least)
	}
}

// Who races for the last tokens never gets more than there are.
func TestRacesForTheLast(t *testing.T) {
	const burst, each, racers = 1000, 7, 16
	c := &clock{}
	p := one(t, Limits{Events: Rate{1, burst}, New: Rate{1, burst / 2}, Bytes: Rate{1, burst}, Remember: 10_000}, c.now)
	var events, fresh, bytes atomic.Int64
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() {
			for j := range 200 {
				if p.TakeBytes(3) == nil {
					bytes.Add(3)
				}
				holders := make([]string, each)
				for k := range holders {
					holders[k] = fmt.Sprint(i, " ", j, " ", k/2) // of seven, four are different
				}
				if ask(p, holders...) == nil {
					events.Add(each)
					fresh.Add(4)
				}
			}
		})
	}
	wg.Wait()
	if got := events.Load(); got != burst/2/4*each {
		t.Errorf("%d events passed, want as many as new holders permit: %d", got, burst/2/4*each)
	}
	if now, _ := p.Known(); fresh.Load() != burst/2 || now != burst/2 {
		t.Errorf("%d holders passed and %d are known, want %d", fresh.Load(), now, burst/2)
	}
	if got := bytes.Load(); got != burst/3*3 {
		t.Errorf("%d bytes passed, want %d", got, burst/3*3)
	}
}

// Of two requests that each fitted when they began, the second to take is refused.
func TestTheLastAreTakenOnce(t *testing.T) {
	p := one(t, Limits{Events: Rate{1, 10}, New: Rate{1, 10}}, new(clock).now)
	first, err := p.Request(6)
	if err != nil {
		t.Fatal(err)
	}
	second, err := p.Request(6)
	if err != nil {
		t.Fatal(err)
	}
	second.Holder("second")
	if err := first.Take(); err != nil {
		t.Errorf("the first: %v", err)
	}
	if over, ok := errors.AsType[*OverLimit](second.Take()); !ok || over.Limit != EventsLimit || over.Left != 4 || over.Wait != 2*time.Second {
		t.Errorf("the second: %+v", over)
	}
	if now, _ := p.Known(); now != 0 {
		t.Errorf("%d ids are known, of a request that was refused", now)
	}
}

func TestWhatIsNew(t *testing.T) {
	c := &clock{}
	p := one(t, Limits{New: Rate{0.001, 1000}, Remember: 1000}, c.now)
	known := func(want int, add func(*Request)) {
		t.Helper()
		r, err := p.Request(1)
		if err != nil {
			t.Fatal(err)
		}
		add(r)
		if err := r.Take(); err != nil {
			t.Fatal(err)
		}
		if now, _ := p.Known(); now != want {
			t.Errorf("%d are known, want %d", now, want)
		}
	}
	known(1, func(r *Request) { r.Holder("a"); r.Holder("a") })
	known(2, func(r *Request) { r.Proof("a", "", "", 0) }) // a node is no holder
	known(2, func(r *Request) { r.Proof("a", "", "", 0); r.Holder("a") })
	known(3, func(r *Request) { r.Proof("a", "GET", "/x", 200) })
	known(4, func(r *Request) { r.Proof("a", "GET", "/x", 404) })
	known(5, func(r *Request) { r.Proof("a", "/x.Y/Z", "", 0) })
	known(7, func(r *Request) { r.Proof("b", "GET", "/x", 200) })
	known(7, func(r *Request) { r.Proof("b", "GET", "/x", 200); r.Proof("a", "GET", "/x", 404) })

	if over := ask(one(t, Limits{}, nil), "a", "b"); over != nil {
		t.Errorf("without limits: %v", over)
	}
}

func TestOverLimitSays(t *testing.T) {
	c := &clock{}
	p := one(t, Limits{Events: Rate{2.5, 5}, Bytes: Rate{10, 100}}, c.now)
	for range 4 {
		if over := ask(p, "a"); over != nil {
			t.Fatal(over)
		}
	}
	over := ask(p, "a", "a", "a")
	want := "the producer anonymous may send 2.5 events a second, and 5 at once; this request has 3, and 1 are left; nothing of it was stored, send it again in 1s"
	if over == nil || over.Error() != want || over.Wait != 800*time.Millisecond || over.Seconds() != 1 {
		t.Errorf("%v (%+v), want %s", over, over, want)
	}
	over, _ = errors.AsType[*OverLimit](p.TakeBytes(101))
	want = "101 bytes in one request are over what the producer anonymous may send at once, which is 100; nothing of it was stored; divide it into requests of at most 100 bytes"
	if over == nil || over.Error() != want || over.Wait != 0 || over.Seconds() != 0 {
		t.Errorf("%v (%+v), want %s", over, over, want)
	}
	p.SpendBytes(90)
	p.SpendBytes(90) // of which there are 10
	c.advance(time.Second)
	if over, _ := errors.AsType[*OverLimit](p.TakeBytes(11)); over == nil || over.Left != 10 {
		t.Errorf("a second after all was spent: %+v", over)
	}
	slow := one(t, Limits{Events: Rate{0.001, math.MaxInt32}}, c.now)
	slow.events.take(c.now(), math.MaxInt32)
	if _, err := slow.Request(math.MaxInt32); err == nil || err.(*OverLimit).Wait != maxWait {
		t.Errorf("what takes years: %v", err)
	}
}

// What is remembered are the last ids at least, nothing else, and within bounds.
func TestKnownRemembersTheLast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 8).Draw(t, "most")
		k := known{most: most}
		var came []uint64 // the last at the end
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			h := rapid.Uint64Range(0, 20).Draw(t, "hash")
			k.add([]uint64{h})
			came = append(came, h)
			recent := map[uint64]bool{}
			for i := len(came) - 1; i >= 0 && len(recent) < most; i-- {
				recent[came[i]] = true
			}
			all := map[uint64]bool{}
			for _, h := range came {
				all[h] = true
			}
			forgotten := 0
			for h := range uint64(21) {
				switch {
				case recent[h] && !k.has(h):
					t.Fatalf("%d of %v is forgotten, and %d are to be known", h, came, most)
				case !all[h] && k.has(h):
					t.Fatalf("%d is known and did not come in %v", h, came)
				case all[h] && !k.has(h):
					forgotten++
				}
			}
			if k.len() > 2*most || k.len()+forgotten != len(all) || int(k.forgotten) < forgotten {
				t.Fatalf("%d are known and %d forgotten (it says %d) of %d; at most twice %d", k.len(), forgotten, k.forgotten, len(all), most)
			}
		}
	})
}

// Ten million different ids take no more memory than was promised.
func TestKnownIsBounded(t *testing.T) {
	const most, ids = 100_000, 10_000_000
	k := known{most: most}
	hashes := make([]uint64, 1000)
	next := uint64(1)
	before := heap()
	for range ids / len(hashes) {
		for i := range hashes {
			next ^= next << 13 // xorshift64: no number twice
			next ^= next >> 7
			next ^= next << 17
			hashes[i] = next
		}
		k.add(hashes)
	}
	took := heap() - before
	if k.len() > 2*most || k.forgotten+uint64(k.len()) != ids {
		t.Errorf("%d are known and %d forgotten", k.len(), k.forgotten)
	}
	if took > 60*most {
		t.Errorf("%d ids take %d bytes", most, took)
	}
	t.Logf("%d bytes, %.1f for each id to be known", took, float64(took)/most)
	runtime.KeepAlive(&k)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkTake is what a request of 1,000 events of known holders costs: go test -bench Take ./internal/ingest/producers
func BenchmarkTake(b *testing.B) {
	p := one(b, Limits{Events: Rate{1e12, math.MaxInt32}, New: Rate{1e12, math.MaxInt32}, Remember: 1_000_000}, nil)
	holders := make([]string, 1000)
	for i := range holders {
		holders[i] = fmt.Sprintf("holder-%d", i)
	}
	b.ReportAllocs()
	for b.Loop() {
		if over := ask(p, holders...); over != nil {
			b.Fatal(over)
		}
	}
}
