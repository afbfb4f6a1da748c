package bench

import (
	"testing"
	"time"

	"github.com/city-chain/holdfast/pkg/client"
)

// Events are as old as the first checkpoint behind them says, and count one by one.
func TestStalenesses(t *testing.T) {
	began := time.Now()
	after := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	numbers := func(p3, p7 uint64) client.Numbers {
		var n client.Numbers
		for i := range n {
			n[i] = 1
		}
		n[3], n[7] = p3, p7
		return n
	}
	got := stalenesses(numbers(11, 1),
		[]sent{
			{due: after(0), next: numbers(21, 1)},   // 10 to partition 3
			{due: after(10), next: numbers(31, 81)}, // 10 more, and 80 to partition 7
		},
		[]sighting{
			{partition: 7, floor: 0, at: after(1)},
			{partition: 3, floor: 15, at: after(2)},  // 5 after 2 s
			{partition: 3, floor: 25, at: after(13)}, // 5 after 13 s, 5 after 3 s
			{partition: 3, floor: 30, at: after(14)}, // 5 after 4 s
			{partition: 7, floor: 80, at: after(15)}, // 80 after 5 s
		})
	for _, tt := range []struct {
		share float64
		want  time.Duration
	}{{0.05, 2 * time.Second}, {0.06, 3 * time.Second}, {0.5, 5 * time.Second}, {0.95, 5 * time.Second}, {0.96, 13 * time.Second}, {1, 13 * time.Second}} {
		if got := got.quantile(tt.share); got != tt.want {
			t.Errorf("%.0f%% within %s; want %s", 100*tt.share, got, tt.want)
		}
	}
}
