package events

import (
	"fmt"
	"math"
	"math/big"
	"math/bits"
	"regexp"
	"strings"
	"time"
)

// Time is an instant in Unix milliseconds. Events hold instants from 0, the start of 1970, to MaxTime; an
// instant that is stated more finely is taken as the millisecond that it lies in.
type Time int64

const (
	// MaxTime is the last instant of the year 9999.
	MaxTime Time = 253402300799999
	// Open is the End of a hold that has none yet. It lies after every instant.
	Open Time = math.MaxInt64
)

// TimeOf returns the millisecond that an instant lies in. It is an event's only from 1970 to 9999.
func TimeOf(t time.Time) Time { return Time(t.UnixMilli()) }

// String returns the instant in RFC 3339, in UTC, with as many fraction digits as it needs, or "open".
func (t Time) String() string {
	if t == Open {
		return "open"
	}
	return time.UnixMilli(int64(t)).UTC().Format(time.RFC3339Nano)
}

// Seconds returns the instant as a decimal number of Unix seconds, exactly.
func (t Time) Seconds() string {
	return trimFraction(fmt.Sprintf("%d.%03d", t/1000, t%1000))
}

// Length returns the length of time of so many milliseconds, in the form in which a policy records it, such as 24h0m0s; one of over 292 years as "N ms".
func (t Time) Length() string {
	d := time.Duration(t) * time.Millisecond
	if Time(d/time.Millisecond) != t {
		return fmt.Sprintf("%d ms", t)
	}
	return d.String()
}

// rfc3339 is the form of an instant; time.Parse takes others too.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// ParseTime reads an instant: Unix seconds, whole or decimal, or RFC 3339.
func ParseTime(s string) (Time, error) {
	if len(s) >= len("2006-01-02T") && s[4] == '-' {
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil || !rfc3339.MatchString(s) {
			return 0, fmt.Errorf("%s is not an instant in RFC 3339, such as 2006-01-02T15:04:05Z", quote(s))
		}
		ms := at.UnixMilli() // the second is whole and the fraction positive, so this rounds down
		if ms < 0 || Time(ms) > MaxTime {
			return 0, fmt.Errorf("%s is outside of the years 1970 to 9999", quote(s))
		}
		return Time(ms), nil
	}
	hi, ms, _, err := parseDecimal(s, 3)
	switch {
	case err == errOverflow, err == nil && (hi > 0 || ms > uint64(MaxTime)):
		return 0, fmt.Errorf("%s seconds is after the year 9999 (are these milliseconds?)", quote(s))
	case err != nil:
		return 0, fmt.Errorf("%s is neither Unix seconds, such as 1767225600, nor RFC 3339, such as 2026-01-01T00:00:00Z: %w", quote(s), err)
	}
	return Time(ms), nil
}

// Weight is what a second of a hold counts: a decimal in units of 10⁻⁹, in 128 bits. The zero value is 0.
type Weight struct{ Hi, Lo uint64 }

// WeightDigits is the number of fraction digits that a weight keeps.
const WeightDigits = 9

// MaxWeight is the largest weight, 2⁹⁶.
var MaxWeight = func() Weight {
	hi, lo := bits.Mul64(1_000_000_000, 1<<32) // 2⁹⁶·10⁹ = (2³²·10⁹)·2⁶⁴
	if hi != 0 {
		panic("2³²·10⁹ fits 64 bits")
	}
	return Weight{Hi: lo}
}()

// Cmp returns -1, 0 or 1 as w is less than, equal to or greater than v.
func (w Weight) Cmp(v Weight) int {
	switch {
	case w.Hi < v.Hi || w.Hi == v.Hi && w.Lo < v.Lo:
		return -1
	case w == v:
		return 0
	}
	return 1
}

// IsZero tells whether the weight is 0.
func (w Weight) IsZero() bool { return w == Weight{} }

// String returns the weight as a plain decimal, exactly, without trailing zeros.
func (w Weight) String() string {
	n := new(big.Int).SetUint64(w.Hi)
	n.Lsh(n, 64).Add(n, new(big.Int).SetUint64(w.Lo))
	return Decimal(n, WeightDigits)
}

// ParseWeight reads a decimal of at least 0, at most MaxWeight, with at most 9 fraction digits. An exponent
// is permitted.
func ParseWeight(s string) (Weight, error) {
	hi, lo, exact, err := parseDecimal(s, WeightDigits)
	w := Weight{hi, lo}
	switch {
	case err == errOverflow, err == nil && w.Cmp(MaxWeight) > 0:
		return Weight{}, fmt.Errorf("%s is over the largest weight, 2^96", quote(s))
	case err != nil:
		return Weight{}, fmt.Errorf("%s is not a weight: %w", quote(s), err)
	case !exact:
		return Weight{}, fmt.Errorf("%s has more than %d fraction digits, which cannot be kept exactly", quote(s), WeightDigits)
	}
	return w, nil
}

// parseLatency reads a decimal number of seconds as nanoseconds; what is finer is cut off.
func parseLatency(s string) (int64, error) {
	hi, ns, _, err := parseDecimal(s, 9)
	switch {
	case err == errOverflow, err == nil && (hi > 0 || ns > math.MaxInt64):
		return 0, fmt.Errorf("%s seconds is over the largest latency, 2^63-1 nanoseconds", quote(s))
	case err != nil:
		return 0, fmt.Errorf("%s is not a latency in seconds: %w", quote(s), err)
	}
	return int64(ns), nil
}

// Decimal returns n·10^-digits, n not being negative, as a plain decimal without trailing zeros.
func Decimal(n *big.Int, digits int) string {
	s := n.String()
	if len(s) <= digits {
		s = strings.Repeat("0", digits-len(s)+1) + s
	}
	whole, fraction := s[:len(s)-digits], s[len(s)-digits:]
	return trimFraction(whole + "." + fraction)
}

// trimFraction cuts a decimal's trailing zeros, and its point if nothing follows.
func trimFraction(s string) string {
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}
