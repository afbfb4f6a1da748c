package poh

import (
	"math/big"
	"math/bits"
)

// Sum is an exact sum: an integer of 128 bits, Hi·2⁶⁴ + Lo. The zero value is 0. Summands are under 2⁶³, so
// sums of up to 2⁶⁵ of them are exact.
type Sum struct{ Hi, Lo uint64 }

// Add returns s + v, or the largest sum, 2¹²⁸−1, if that is larger.
func (s Sum) Add(v Sum) Sum {
	lo, carry := bits.Add64(s.Lo, v.Lo, 0)
	hi, over := bits.Add64(s.Hi, v.Hi, carry)
	return Sum{hi | -over, lo | -over}
}

// addCapped returns a + b, or the largest count, 2⁶⁴−1, if that is larger.
func addCapped(a, b uint64) uint64 {
	n, over := bits.Add64(a, b, 0)
	return n | -over
}

// Cmp returns -1, 0 or 1 as s is less than, equal to or greater than v.
func (s Sum) Cmp(v Sum) int {
	switch {
	case s.Hi < v.Hi || s.Hi == v.Hi && s.Lo < v.Lo:
		return -1
	case s == v:
		return 0
	}
	return 1
}

// Big returns the sum as a new big integer.
func (s Sum) Big() *big.Int {
	n := new(big.Int).SetUint64(s.Hi)
	return n.Lsh(n, 64).Add(n, new(big.Int).SetUint64(s.Lo))
}

// Float64 returns the sum rounded to the nearest float64.
func (s Sum) Float64() float64 {
	f, _ := s.Big().Float64()
	return f
}

// times returns n·v.
func times(n, v uint64) Sum {
	hi, lo := bits.Mul64(n, v)
	return Sum{hi, lo}
}
