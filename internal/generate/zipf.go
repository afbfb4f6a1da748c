package generate

import (
	"math"
	"math/rand/v2"
)

// zipf draws ranks 0 to n-1, rank k as often as (k+1)^-s says, for any s from 0. It samples by rejection-inversion: W. Hörmann and
// G. Derflinger, "Rejection-inversion to generate variates from monotone discrete distributions", ACM TOMACS 6 (1996). math/rand has
// the same for s above 1 alone.
type zipf struct {
	n            int
	s            float64
	first, last  float64 // the integral of the density, from where ranks begin to where they end
	surelyWithin float64 // how far from a rank a point may lie that is always taken
	uniform      bool
}

func newZipf(n int, s float64) zipf {
	z := zipf{n: n, s: s, uniform: s == 0 || n == 1}
	if !z.uniform {
		z.first = z.integral(1.5) - 1
		z.last = z.integral(float64(n) + 0.5)
		z.surelyWithin = 2 - z.inverse(z.integral(2.5)-z.density(2))
	}
	return z
}

func (z *zipf) draw(random *rand.Rand) int {
	if z.uniform {
		return random.IntN(z.n)
	}
	for {
		u := z.last + float64(random.Float64()*(z.first-z.last))
		x := z.inverse(u)
		k := min(max(math.Floor(x+0.5), 1), float64(z.n))
		if k-x <= z.surelyWithin || u >= z.integral(k+0.5)-z.density(k) {
			return int(k) - 1
		}
	}
}

// density is x^-s.
func (z *zipf) density(x float64) float64 { return math.Exp(-z.s * math.Log(x)) }

// integral is that of the density from 1 to x: (x^(1-s) - 1) / (1-s), or log x where s is 1.
func (z *zipf) integral(x float64) float64 {
	log := math.Log(x)
	return ratio(math.Expm1, (1-z.s)*log) * log
}

// inverse is that of the integral.
func (z *zipf) inverse(y float64) float64 {
	t := max(y*(1-z.s), -1) // below it by rounding alone
	return math.Exp(ratio(math.Log1p, t) * y)
}

// ratio is f(x)/x, with the 1 that it comes to at 0.
func ratio(f func(float64) float64, x float64) float64 {
	if math.Abs(x) < 1e-12 {
		return 1
	}
	return f(x) / x
}
