package score_test

import (
	"fmt"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

func ExampleCalc() {
	weight, err := events.ParseWeight("2.5")
	if err != nil {
		panic(err)
	}
	start, err := events.ParseTime("2026-01-01T00:00:00Z")
	if err != nil {
		panic(err)
	}
	holds := []score.Hold{
		{Start: start, End: start + 60_000, Weight: weight}, // a minute: times are in milliseconds
		{Start: start, End: events.Open, Weight: weight},    // it has no end, and counts until now
	}
	fmt.Println(score.Calc(holds, start+3_600_000))
	// Output: 9150
}
