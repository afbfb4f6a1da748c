package generate_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/city-chain/holdfast/internal/generate"
	"github.com/city-chain/holdfast/pkg/events"
)

// Bulk makes valid holds that are over, the same for the same seed, and one of each holder if it is asked to.
func TestBulk(t *testing.T) {
	const holders = 250
	a, b := generate.NewBulk(3, holders, 10), generate.NewBulk(3, holders, 10)
	of := map[string]int{}
	for from := 0; from < holders; {
		list := a.AppendEach(make([]events.HoldEvent, 0, 100), from, begin)
		if diff := cmp.Diff(list, b.AppendEach(make([]events.HoldEvent, 0, 100), from, begin)); diff != "" {
			t.Fatalf("the same seed: %s", diff)
		}
		for _, e := range list {
			of[e.Holder]++
		}
		from += len(list)
	}
	if len(of) != holders {
		t.Errorf("holds of %d holders, want one of each of %d", len(of), holders)
	}
	list := a.Append(nil, 5000, begin)
	for i := range list {
		e := &list[i]
		if err := e.Validate(); err != nil || e.End > begin || e.End < begin-13*day || e.Kind != events.KindHold {
			t.Fatalf("%+v: %v", e, err)
		}
		of[e.Holder]++
	}
	if len(list) != 5000 || len(of) != holders {
		t.Errorf("%d holds of %d holders", len(list), len(of))
	}
	if allocations := testing.AllocsPerRun(10, func() { list = a.Append(list[:0], 1000, begin) }); allocations > 1 {
		t.Errorf("%.0f allocations for 1000 holds, want 1", allocations)
	}
}
