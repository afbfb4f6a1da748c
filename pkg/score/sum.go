package score

import (
	"encoding/binary"
	"math/big"
	"math/bits"

	"github.com/holiman/uint256"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/wire"
)

// SumDigits is the number of fraction digits of a score in weight·seconds: 9 of the weight and 3 of the time.
const SumDigits = events.WeightDigits + 3

// Sum is an exact score: an integer of 256 bits in units of 10⁻¹² weight·seconds. The zero value is 0. One
// hold is under 2¹⁷⁴, so sums of fewer than 2⁸² holds do not overflow.
type Sum struct {
	limbs uint256.Int // least significant first
}

// Add returns s + v.
func (s Sum) Add(v Sum) Sum {
	s.limbs.Add(&s.limbs, &v.limbs)
	return s
}

// Sub returns s − v, which must not be negative.
func (s Sum) Sub(v Sum) Sum {
	s.limbs.Sub(&s.limbs, &v.limbs)
	return s
}

// Cmp returns -1, 0 or 1 as s is less than, equal to or greater than v.
func (s Sum) Cmp(v Sum) int { return s.limbs.Cmp(&v.limbs) }

// Less tells whether s is less than v, as Cmp does and in a third of the time.
func (s *Sum) Less(v *Sum) bool {
	_, c := bits.Sub64(s.limbs[0], v.limbs[0], 0)
	_, c = bits.Sub64(s.limbs[1], v.limbs[1], c)
	_, c = bits.Sub64(s.limbs[2], v.limbs[2], c)
	_, c = bits.Sub64(s.limbs[3], v.limbs[3], c)
	return c != 0
}

// IsZero tells whether s is 0.
func (s Sum) IsZero() bool { return s.limbs.IsZero() }

// String returns the score in weight·seconds as a plain decimal, exactly, without trailing zeros.
func (s Sum) String() string { return events.Decimal(s.limbs.ToBig(), SumDigits) }

// Float64 returns the score in weight·seconds, rounded to the nearest float64.
func (s Sum) Float64() float64 { return nearest(&s.limbs, SumDigits) }

// Bytes returns the sum as 256 bits in units of 10⁻¹² weight·seconds, most significant byte first.
func (s Sum) Bytes() [32]byte { return s.limbs.Bytes32() }

// SumFromBytes returns the sum whose Bytes are b. Any are.
func SumFromBytes(b [32]byte) (s Sum) {
	s.limbs.SetBytes32(b[:])
	return s
}

// accrue adds weight × ms; a span that is not positive counts nothing. A product has at most 191 bits.
func (s *Sum) accrue(w events.Weight, ms events.Time) {
	if ms <= 0 {
		return
	}
	h1, p0 := bits.Mul64(w.Lo, uint64(ms))
	p2, p1 := bits.Mul64(w.Hi, uint64(ms))
	p1, c := bits.Add64(p1, h1, 0)
	p2 += c
	l := &s.limbs
	l[0], c = bits.Add64(l[0], p0, 0)
	l[1], c = bits.Add64(l[1], p1, c)
	l[2], c = bits.Add64(l[2], p2, c)
	l[3] += c
}

// Rate is how fast a score grows: the sum of the weights of the running holds, an integer of 256 bits in
// units of 10⁻⁹ weight·seconds a second. The zero value is 0.
type Rate struct {
	limbs uint256.Int
}

// Add returns r + w.
func (r Rate) Add(w events.Weight) Rate {
	r.limbs.Add(&r.limbs, &uint256.Int{w.Lo, w.Hi, 0, 0})
	return r
}

// AddRate returns r + v.
func (r Rate) AddRate(v Rate) Rate {
	r.limbs.Add(&r.limbs, &v.limbs)
	return r
}

// sub returns r − w, which must not be negative.
func (r Rate) sub(w events.Weight) Rate {
	r.limbs.Sub(&r.limbs, &uint256.Int{w.Lo, w.Hi, 0, 0})
	return r
}

// IsZero tells whether r is 0.
func (r Rate) IsZero() bool { return r.limbs.IsZero() }

// Over returns what a score grows by at the rate in a span of time, in milliseconds, that is not negative.
func (r Rate) Over(ms events.Time) (s Sum) {
	s.limbs.Mul(&r.limbs, &uint256.Int{uint64(ms), 0, 0, 0})
	return s
}

// String returns the rate as a plain decimal, exactly, without trailing zeros.
func (r Rate) String() string { return events.Decimal(r.limbs.ToBig(), events.WeightDigits) }

// Float64 returns the rate rounded to the nearest float64.
func (r Rate) Float64() float64 { return nearest(&r.limbs, events.WeightDigits) }

// appendSum appends a sum in its canonical form: an integer if it fits 64 bits, else its 9 to 32 big-endian
// bytes.
func appendSum(b []byte, s Sum) []byte {
	if s.limbs.IsUint64() {
		return wire.AppendUint(b, s.limbs.Uint64())
	}
	full := s.limbs.Bytes32()
	i := 0
	for full[i] == 0 {
		i++
	}
	return wire.AppendBytes(b, full[i:])
}

// readSum reads what appendSum writes.
func readSum(r *wire.Reader) Sum {
	if !r.NextIsBytes() {
		return Sum{limbs: uint256.Int{r.Uint(), 0, 0, 0}}
	}
	text := r.Bytes()
	if len(text) < 9 || len(text) > 32 || text[0] == 0 {
		r.Fail("a sum of %d bytes; it has 9 to 32, the first not 0", len(text))
		return Sum{}
	}
	var full [32]byte
	copy(full[32-len(text):], text)
	return Sum{limbs: uint256.Int{
		binary.BigEndian.Uint64(full[24:]), binary.BigEndian.Uint64(full[16:]),
		binary.BigEndian.Uint64(full[8:]), binary.BigEndian.Uint64(full[:]),
	}}
}

// nearest returns n·10^-digits rounded to the nearest float64.
func nearest(n *uint256.Int, digits int64) float64 {
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(digits), nil)
	f, _ := new(big.Rat).SetFrac(n.ToBig(), scale).Float64()
	return f
}
