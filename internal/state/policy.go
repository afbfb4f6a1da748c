package state

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/poh"
	"github.com/city-chain/holdfast/pkg/score"
)

// Policy is everything that may differ between one deployment's fold and another's. It is recorded with the
// streams when they are made; a fold under another policy refuses to go on from their state.
type Policy struct {
	Score        score.Policy
	PoH          poh.Policy
	MaxProducers int // the most producers whose numbers a partition keeps, from 1
}

// DefaultPolicy returns the policy that is recorded if nothing else is asked for: no TTL, no windows.
func DefaultPolicy() Policy {
	return Policy{Score: score.DefaultPolicy(), PoH: poh.DefaultPolicy(), MaxProducers: 1000}
}

// Validate returns what is wrong with the policy, or nil.
func (p *Policy) Validate() error {
	var own error
	if p.MaxProducers < 1 || p.MaxProducers > maxProducers {
		own = fmt.Errorf("%d producers a partition; max_producers_per_partition is 1 to %d", p.MaxProducers, maxProducers)
	}
	var size error
	if most := max(p.Score.SlotBytes, p.PoH.SlotBytes); most > maxSlotBytes {
		size = fmt.Errorf("%d bytes a slot; at most %d fit a message with what stands beside them", most, maxSlotBytes)
	}
	var long error
	if most := max(p.Score.TTL, p.Score.Window); most > maxDuration {
		long = fmt.Errorf("a TTL or window of %s; at most %s, 292 years, can be recorded", most.Length(), maxDuration.Length())
	}
	return errors.Join(p.Score.Validate(), p.PoH.Validate(), own, size, long)
}

const (
	// maxProducers and maxSlotBytes keep a checkpoint and a slot within a message of 1 MiB.
	maxProducers = 4000
	maxSlotBytes = 1_000_000
	// maxDuration is the longest time.Duration, in milliseconds.
	maxDuration events.Time = math.MaxInt64 / events.Time(time.Millisecond)
)

// setting is an entry of the recorded policy: how it is written and read.
type setting struct {
	name string
	get  func(*Policy) string
	set  func(*Policy, string) error
}

var settings = []setting{
	duration("ttl", func(p *Policy) *events.Time { return &p.Score.TTL }),
	{
		name: "ttl_open_holds",
		get:  func(p *Policy) string { return strconv.FormatBool(p.Score.TTLOpen) },
		set: func(p *Policy, s string) (err error) {
			if p.Score.TTLOpen, err = strconv.ParseBool(s); err != nil {
				err = errors.New("neither true nor false")
			}
			return err
		},
	},
	duration("window", func(p *Policy) *events.Time { return &p.Score.Window }),
	duration("window_step", func(p *Policy) *events.Time { return &p.Score.WindowStep }),
	number("max_holds_per_holder", func(p *Policy) *int { return &p.Score.MaxHolds }),
	number("max_tokens_per_holder", func(p *Policy) *int { return &p.Score.MaxTokens }),
	number("max_bytes_per_slot", func(p *Policy) *int { return &p.Score.SlotBytes }),
	number("max_producers_per_partition", func(p *Policy) *int { return &p.MaxProducers }),
	number("max_poh_series_per_slot", func(p *Policy) *int { return &p.PoH.MaxSeries }),
	number("max_poh_bytes_per_slot", func(p *Policy) *int { return &p.PoH.SlotBytes }),
}

func duration(name string, field func(*Policy) *events.Time) setting {
	return setting{
		name: name,
		get:  func(p *Policy) string { return (time.Duration(*field(p)) * time.Millisecond).String() },
		set: func(p *Policy, s string) error {
			d, err := time.ParseDuration(s)
			switch {
			case err != nil:
				err = errors.New("no length of time, such as 36h or 1m30s")
			case d%time.Millisecond != 0:
				err = errors.New("finer than a millisecond")
			}
			*field(p) = events.Time(d / time.Millisecond)
			return err
		},
	}
}

func number(name string, field func(*Policy) *int) setting {
	return setting{
		name: name,
		get:  func(p *Policy) string { return strconv.Itoa(*field(p)) },
		set: func(p *Policy, s string) (err error) {
			if *field(p), err = strconv.Atoi(s); err != nil {
				err = errors.New("no whole number that fits")
			}
			return err
		},
	}
}

// Map returns the policy as it is recorded with a stream.
func (p *Policy) Map() map[string]string {
	m := make(map[string]string, len(settings))
	for _, s := range settings {
		m[s.name] = s.get(p)
	}
	return m
}

// ParsePolicy reads what Map writes: every setting, and no other.
func ParsePolicy(m map[string]string) (Policy, error) {
	var p Policy
	var errs []error
	for _, s := range settings {
		text, ok := m[s.name]
		if !ok {
			errs = append(errs, fmt.Errorf("policy: %s is missing", s.name))
		} else if err := s.set(&p, text); err != nil {
			errs = append(errs, fmt.Errorf("policy: %s: %q: %w", s.name, text, err))
		}
	}
	if len(m) > len(settings) {
		errs = append(errs, fmt.Errorf("policy: it has %d settings; this program knows %d", len(m), len(settings)))
	}
	if len(errs) > 0 {
		return Policy{}, errors.Join(errs...)
	}
	return p, p.Validate()
}
