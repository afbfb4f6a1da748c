package holders_test

import (
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/holders"
	"github.com/city-chain/holdfast/pkg/score"
)

// noon is the instant at which the clocks of the examples stand.
var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func atNoon() time.Time { return noon }

// weightOf is events.ParseWeight for the examples.
func weightOf(decimal string) events.Weight {
	w, err := events.ParseWeight(decimal)
	if err != nil {
		log.Fatal(err)
	}
	return w
}

// One hold that has ended and one that is open: the ranking now, and an hour from now.
func Example() {
	aggregator, err := holders.New(holders.Options{Clock: atNoon})
	if err != nil {
		log.Fatal(err)
	}
	ten, eleven, open := noon.Add(-2*time.Hour), noon.Add(-time.Hour), time.Time{}
	err = errors.Join(
		aggregator.Record("gold", "alice", ten, eleven, weightOf("2.5")),
		aggregator.Record("silver", "bob", ten, open, weightOf("1")),
	)
	if err != nil {
		log.Fatal(err)
	}

	var now time.Time
	for _, t := range []time.Time{now, noon.Add(time.Hour)} {
		top, err := aggregator.Top(10, t)
		if err != nil {
			log.Fatal(err)
		}
		for i, r := range top {
			fmt.Printf("%d. %s has %s and gains %s a second\n", i+1, r.ID, r.Score, r.Rate)
		}
	}
	// Output:
	// 1. alice has 9000 and gains 0 a second
	// 2. bob has 7200 and gains 1 a second
	// 1. bob has 10800 and gains 1 a second
	// 2. alice has 9000 and gains 0 a second
}

// Balances come as they change, and what breaks a rule is refused with a reason; the rest of a batch counts.
func ExampleAggregator_ApplyAll() {
	aggregator, err := holders.New(holders.Options{Clock: atNoon})
	if err != nil {
		log.Fatal(err)
	}
	balance := func(before time.Duration, weight string) events.HoldEvent {
		return events.HoldEvent{
			Kind: events.KindBalance, Token: "BTC", Holder: "alice",
			Start: events.Time(noon.Add(-before).UnixMilli()), Weight: weightOf(weight),
		}
	}
	refused := aggregator.ApplyAll([]events.HoldEvent{
		balance(60*time.Second, "0.00000001"), // a satoshi, for half a minute
		balance(30*time.Second, "2"),          // then two bitcoin
		balance(40*time.Second, "1"),          // out of order
	})
	for _, r := range refused {
		fmt.Printf("event %d: %s\n", r.Index, r.Refusal.Reason)
	}
	reading, err := aggregator.Score("alice", time.Time{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reading.Score)
	// Output:
	// event 2: balance_out_of_order
	// 60.0000003
}

// Who has not been heard of for the policy's TTL counts no longer; collecting frees the memory.
func ExampleAggregator_Collect() {
	clock := noon
	aggregator, err := holders.New(holders.Options{
		Policy: score.Policy{TTL: events.Time(time.Hour.Milliseconds())},
		Clock:  func() time.Time { return clock },
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := aggregator.Record("token", "alice", noon.Add(-time.Minute), noon, weightOf("1")); err != nil {
		log.Fatal(err)
	}
	for range 2 {
		reading, err := aggregator.Score("alice", time.Time{})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(reading.Score, reading.Holds, aggregator.Len())
		clock = noon.Add(2 * time.Hour)
	}
	fmt.Println(aggregator.Collect(), aggregator.Len())
	// Output:
	// 60 1 1
	// 0 0 1
	// 1 0
}

// What has ended is one sum: a question about an instant before that says since when there are answers.
func ExampleAggregator_Score() {
	aggregator, err := holders.New(holders.Options{Clock: atNoon})
	if err != nil {
		log.Fatal(err)
	}
	if err := aggregator.Record("token", "alice", noon.Add(-2*time.Hour), noon.Add(-time.Hour), weightOf("1")); err != nil {
		log.Fatal(err)
	}
	_, err = aggregator.Score("alice", noon.Add(-90*time.Minute))
	var forgotten *score.ForgottenError
	fmt.Println(errors.As(err, &forgotten), forgotten.Since)
	// Output:
	// true 2026-01-01T11:00:00Z
}
