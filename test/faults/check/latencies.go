package check

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"

	"github.com/vmihailenco/msgpack/v5"
)

// readDistribution reads the latencies of a poh.sum. The error says why no latencies are written so.
func readDistribution(s string) (*distribution, error) {
	d := newDistribution()
	err := decodeStored([]byte(s), func(p *parts) { d = p.distribution() })
	if err != nil {
		return nil, err
	}
	if again := d.encode(); again != s {
		return nil, fmt.Errorf("%x is not in its shortest form, %x", s, again)
	}
	return d, d.possible()
}

// distribution reads the parts [high 64 bits of the sum, low, [classic, …], [gap, count, …]].
func (p *parts) distribution() *distribution {
	d := newDistribution()
	d.sum.SetUint64(p.number())
	d.sum.Add(d.sum.Lsh(d.sum, 64), new(big.Int).SetUint64(p.number()))
	classic := p.array()
	for i := range d.classic {
		d.classic[i] = classic.number()
	}
	next := uint64(0)
	for fine := p.array(); fine.more(); {
		next += fine.upTo(math.MaxInt32)
		d.fine[next] = fine.number()
		next++
	}
	return d
}

// encode writes what distribution reads.
func (d *distribution) encode() string {
	var b bytes.Buffer
	e := msgpack.NewEncoder(&b)
	write := func(err error) {
		if err != nil {
			panic(err) // a buffer takes everything
		}
	}
	write(e.EncodeArrayLen(4))
	write(e.EncodeUint(new(big.Int).Rsh(d.sum, 64).Uint64()))
	write(e.EncodeUint(new(big.Int).And(d.sum, new(big.Int).SetUint64(math.MaxUint64)).Uint64()))
	write(e.EncodeArrayLen(len(d.classic)))
	for _, n := range d.classic {
		write(e.EncodeUint(n))
	}
	write(e.EncodeArrayLen(2 * len(d.fine)))
	next := uint64(0)
	for _, number := range slices.Sorted(maps.Keys(d.fine)) {
		write(e.EncodeUint(number - next))
		write(e.EncodeUint(d.fine[number]))
		next = number + 1
	}
	return b.String()
}

// possible says why no latencies lead to the distribution. Put in order, the latencies lie in the fine buckets one after another, and
// in the classic ones: each lies where its two buckets overlap, which gives the least and the largest sum that they can have.
func (d *distribution) possible() error {
	total := new(big.Int)
	for _, n := range d.classic {
		total.Add(total, new(big.Int).SetUint64(n))
	}
	if total.Sign() == 0 || !total.IsUint64() {
		return fmt.Errorf("%v latencies", total)
	}
	least, most := new(big.Int), new(big.Int)
	at, left := 0, d.classic[0] // the classic bucket of the next latency, and how many of it are left
	for _, number := range slices.Sorted(maps.Keys(d.fine)) {
		if number > uint64(len(fineBounds)) {
			return fmt.Errorf("there is no bucket %d", number)
		}
		low, high := int64(0), int64(0)
		if number > 0 {
			low, high = 1, fineBounds[number-1]
		}
		if number > 1 {
			low = fineBounds[number-2] + 1
		}
		for n := d.fine[number]; n > 0 || low > high; {
			for left == 0 && at+1 < len(d.classic) {
				at++
				left = d.classic[at]
			}
			from, to := low, high
			if at > 0 {
				from = max(from, bounds[at-1]+1)
			}
			if at < len(bounds) {
				to = min(to, bounds[at])
			}
			some := min(n, left)
			if some == 0 || from > to {
				return fmt.Errorf("%d latencies of bucket %d are in no other bucket that they can be in", n, number)
			}
			add(least, some, from)
			add(most, some, to)
			n, left = n-some, left-some
		}
	}
	for at++; at < len(d.classic); at++ {
		left += d.classic[at]
	}
	switch {
	case left > 0:
		return fmt.Errorf("%d latencies are in one kind of buckets only", left)
	case d.sum.Cmp(least) < 0 || d.sum.Cmp(most) > 0:
		return fmt.Errorf("a sum of %v, which is from %v to %v", d.sum, least, most)
	}
	for number, n := range d.fine {
		if n == 0 {
			return fmt.Errorf("the bucket %d is empty, and there", number)
		}
	}
	return nil
}

func add(sum *big.Int, n uint64, ns int64) {
	product := new(big.Int).SetUint64(n)
	sum.Add(sum, product.Mul(product, big.NewInt(ns)))
}
