package score

import (
	"math/bits"
	"slices"

	"github.com/city-chain/holdfast/pkg/events"
)

// The columns of a [Table] hold what evaluating all its holders reads, and little else: how long that takes is how long
// it takes to read them from memory. A column in which every value is the usual one is nil.

// extend appends a value to a column of n values, with room for more.
func extend[T comparable](column []T, n, room int, value, usual T) []T {
	if column == nil {
		if value == usual {
			return nil
		}
		column = make([]T, n, n+room)
		for i := range column {
			column[i] = usual
		}
	}
	return append(column, value)
}

// sumColumn is a column of sums, by their limbs: high ones are mostly 0 in all of a table.
type sumColumn struct {
	n     int
	limbs [4][]uint64
}

// add appends a sum.
func (c *sumColumn) add(s *Sum, room int) {
	for k, limb := range s.limbs {
		c.limbs[k] = extend(c.limbs[k], c.n, room, limb, 0)
	}
	c.n++
}

// read copies the sums to into, which has as many.
func (c *sumColumn) read(into []Sum) {
	if c.limbs[0] == nil || c.limbs[1] == nil || c.limbs[2] != nil || c.limbs[3] != nil {
		clear(into)
		for k, limbs := range c.limbs {
			for i, limb := range limbs {
				into[i].limbs[k] = limb
			}
		}
		return
	}
	low, high := c.limbs[0][:len(into)], c.limbs[1][:len(into)] // most sums have two limbs
	for i := range into {
		s := &into[i].limbs
		s[0], s[1], s[2], s[3] = low[i], high[i], 0, 0
	}
}

// holdColumn is a column of holds.
type holdColumn struct {
	starts []events.Time
	ends   []events.Time // nil: none has one
	low    []uint64      // of the weights
	high   []uint64
}

// add appends a hold.
func (c *holdColumn) add(h Hold, room int) {
	n := len(c.starts)
	c.starts, c.low = append(c.starts, h.Start), append(c.low, h.Weight.Lo)
	c.ends = extend(c.ends, n, room, h.End, events.Open)
	c.high = extend(c.high, n, room, h.Weight.Hi, 0)
}

// clip gives back the room that was not needed.
func (c *holdColumn) clip() {
	c.starts, c.ends, c.low, c.high = slices.Clone(c.starts), slices.Clone(c.ends), slices.Clone(c.low), slices.Clone(c.high)
}

// at returns hold j.
func (c *holdColumn) at(j uint32) Hold {
	h := Hold{Start: c.starts[j], End: events.Open, Weight: events.Weight{Lo: c.low[j]}}
	if c.ends != nil {
		h.End = c.ends[j]
	}
	if c.high != nil {
		h.Weight.Hi = c.high[j]
	}
	return h
}

// accrue adds to each sum what its holds have counted until an instant; the holds of sum i are those from firsts[i] on.
func (c *holdColumn) accrue(sums []Sum, firsts []uint32, at events.Time) {
	j := uint32(0)
	for i := range sums {
		s := &sums[i].limbs
		for to := firsts[i+1]; j < to; j++ {
			end := at
			if c.ends != nil {
				end = min(at, c.ends[j])
			}
			ms := end - c.starts[j]
			if ms <= 0 {
				continue
			}
			p1, p0 := bits.Mul64(c.low[j], uint64(ms))
			var p2, carry uint64
			if c.high != nil {
				var p uint64
				p2, p = bits.Mul64(c.high[j], uint64(ms))
				p1, carry = bits.Add64(p1, p, 0)
				p2 += carry
			}
			s[0], carry = bits.Add64(s[0], p0, 0)
			s[1], carry = bits.Add64(s[1], p1, carry)
			s[2], carry = bits.Add64(s[2], p2, carry)
			s[3] += carry
		}
	}
}
