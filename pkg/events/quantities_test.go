package events_test

import (
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/pkg/events"
)

func TestParseTime(t *testing.T) {
	for s, want := range map[string]events.Time{
		"0": 0, "1": 1000, "1.5": 1500, "1.0005": 1000, "1.9999": 1999, "749458803": 749458803000, "1e3": 1000000, "15e-1": 1500,
		"1700000000.123": 1700000000123, "253402300799.999": events.MaxTime, "-0": 0, "0.0009": 0,
		"1970-01-01T00:00:01Z": 1000, "1993-10-01T07:00:03+07:00": 749433603000, "2026-01-02T03:04:05.678901Z": 1767323045678,
		"9999-12-31T23:59:59.999999Z": events.MaxTime,
	} {
		got, err := events.ParseTime(s)
		if err != nil || got != want {
			t.Errorf("%q is read as %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "-1", "NaN", "inf", "1,5", "0x10", "1_000", "1e", "e5", ".", "+", "--1", "1700000000000", "1e300", "253402300800", "1e99999999999999999999",
		"2026-13-01T00:00:00Z", "2026-01-01", "1969-12-31T23:59:59Z", "2026-01-01T00:00:00", "2026-01-02T5:04:05Z", "2026-01-02T03:04:05,5Z", "2026-01-02T03:04:05+25:00", "yesterday", strings.Repeat("1", 129),
	} {
		if got, err := events.ParseTime(s); err == nil {
			t.Errorf("%q is read as %d; it should be refused", s, got)
		}
	}
}

func TestTimesAreReadAsTheyAreShown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := drawTime(t, "at")
		for _, s := range []string{at.String(), at.Seconds(), time.UnixMilli(int64(at)).Format(time.RFC3339Nano)} {
			if got, err := events.ParseTime(s); err != nil || got != at {
				t.Fatalf("%d is shown as %s, which is read as %d, %v", at, s, got, err)
			}
		}
	})
}

func TestLength(t *testing.T) {
	for ms, want := range map[events.Time]string{
		0: "0s", 500: "500ms", 86_400_000: "24h0m0s", -1: "-1ms", 9_223_372_036_854: "2562047h47m16.854s", 9_223_372_036_855: "9223372036855 ms", math.MaxInt64: "9223372036854775807 ms",
	} {
		if got := ms.Length(); got != want {
			t.Errorf("%d ms: %q, want %q", int64(ms), got, want)
		}
	}
}

func TestParseWeight(t *testing.T) {
	for s, want := range map[string]string{
		"0": "0", "0.000": "0", "1": "1", "1.50": "1.5", "0.000000001": "0.000000001", "00.1": "0.1", ".5": "0.5", "5.": "5", "+1": "1", "-0": "0",
		"1e-9": "0.000000001", "1E+3": "1000", "12.5e1": "125", "1.0000000000": "1",
		"21000000.00000001":                       "21000000.00000001", // all satoshi there are and one
		"79228162514264337593543950336":           "79228162514264337593543950336",
		"79228162514264337593543950335.999999999": "79228162514264337593543950335.999999999",
		"115792089237316195423570985.000000001":   "115792089237316195423570985.000000001",
	} {
		got, err := events.ParseWeight(s)
		if err != nil || got.String() != want {
			t.Errorf("%q is read as %s, %v; want %s", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "-1", "-0.000000001", "NaN", "Infinity", "-inf", "1e-10", "0.0000000001", "0.30000000000000004", "1.2.3", "1 ", "0x1p3", "1e400",
		"79228162514264337593543950336.000000001", "79228162514264337593543950337", "1e29", "340282366920938463463374607431.768211456",
	} {
		if got, err := events.ParseWeight(s); err == nil {
			t.Errorf("%q is read as %s; it should be refused", s, got)
		}
	}
}

func TestWeightsAreReadAsTheyAreShown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWeight(t)
		n := new(big.Int).SetUint64(w.Hi)
		n.Lsh(n, 64).Or(n, new(big.Int).SetUint64(w.Lo))
		exact := new(big.Rat).SetFrac(n, big.NewInt(1e9))
		if shown, ok := new(big.Rat).SetString(w.String()); !ok || shown.Cmp(exact) != 0 {
			t.Fatalf("%+v is shown as %s", w, w)
		}
		if got, err := events.ParseWeight(w.String()); err != nil || got != w {
			t.Fatalf("%s is read as %s, %v", w, got, err)
		}
	})
}
