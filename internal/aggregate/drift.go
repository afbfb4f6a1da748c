package aggregate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
)

// policyFlag is the flag that an entry of the recorded policy comes of.
var policyFlag = map[string]string{
	"ttl":                         "--ttl",
	"ttl_open_holds":              "--ttl-open-holds",
	"window":                      "--window",
	"window_step":                 "--window-step",
	"max_holds_per_holder":        "--max-holds",
	"max_tokens_per_holder":       "--max-tokens",
	"max_bytes_per_slot":          "--max-slot-bytes",
	"max_poh_bytes_per_slot":      "--max-slot-bytes",
	"max_producers_per_partition": "--max-producers",
	"max_poh_series_per_slot":     "--max-series",
}

// flagError is a drift, told by the flags that it comes of.
type flagError struct {
	text  string
	drift *jetstream.DriftError
}

func (e *flagError) Error() string { return e.text }
func (e *flagError) Unwrap() error { return e.drift }

// byFlags tells a drift by the flags that it comes of, and what to start with instead; recorded is the policy that the streams have.
// A drift that no flag can make good, such as a stream with an age limit, stays as it is.
func byFlags(drift *jetstream.DriftError, recorded map[string]string) error {
	var policy, replicas []string
	want := ""
	for _, d := range drift.Differences {
		name, isPolicy := strings.CutPrefix(d.Field, "policy ")
		flag := policyFlag[name]
		switch {
		case isPolicy && flag != "":
			policy = append(policy, asFlag(name, d.Want))
		case d.Field == "num_replicas":
			replicas = append(replicas, fmt.Sprintf("%s has %s", d.Object, d.Have))
			want = d.Want
		default:
			return drift
		}
	}
	var parts []string
	if len(policy) > 0 {
		parts = append(parts, aboutPolicy(policy, recorded))
	}
	if len(replicas) > 0 {
		parts = append(parts, fmt.Sprintf("--replicas=%s, and %s: leave the flag out, or have an operator change how many there are (nats stream edit)",
			want, strings.Join(replicas, ", ")))
	}
	return &flagError{strings.Join(parts, "; "), drift}
}

// aboutPolicy says which flags are not those of the streams, and which are.
func aboutPolicy(asked []string, recorded map[string]string) string {
	slices.Sort(asked)
	asked = slices.Compact(asked) // each is recorded with both logs
	are := "are"
	if len(asked) == 1 {
		are = "is"
	}
	standard := state.DefaultPolicy()
	var have []string
	for name, value := range standard.Map() {
		if recorded[name] != value {
			have = append(have, asFlag(name, recorded[name]))
		}
	}
	slices.Sort(have)
	start := "without any flag of the policy"
	if have = slices.Compact(have); len(have) > 0 {
		start = "with " + strings.Join(have, " ") + ", or leave all flags of the policy out"
	}
	return fmt.Sprintf("%s %s not what the streams were made with, and a policy stays as it is: start %s", strings.Join(asked, " "), are, start)
}

// asFlag writes an entry of the policy as one would ask for it.
func asFlag(name, value string) string {
	standard := state.DefaultPolicy()
	if value == standard.Map()[name] {
		return policyFlag[name] + "=" + value + " (the default)"
	}
	return policyFlag[name] + "=" + value
}
