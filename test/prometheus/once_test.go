package prometheus

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPerExporter(t *testing.T) {
	tests := map[string][]string{
		// Taken once.
		`max(x)`: nil,
		`max by (a) (rate(x{instance!="b"}[5m]))`:                                   nil,
		`max without (instance, job) (x)`:                                           nil,
		`max(x / y)`:                                                                nil,
		`time() - max by (a) (x) < 120`:                                             nil,
		`max by (a) (sum by (a, instance) (rate(x[5m])))`:                           nil,
		`max(histogram_quantile(0.99, sum by (instance, le) (rate(x_bucket[5m]))))`: nil,
		`max by (a) (x unless on (job, instance) y == 0)`:                           nil,
		`sum(rate(x[5m]) and on (job, instance) topk(1, y{stream="HOLDS"}))`:        {"y"}, // which is not of the state
		`sum(max by (a) (x))`:                                                       nil,
		`a:b:max and (max(x) > 1) # max of all`:                                     {"a:b:max"},
		"max(\n  histogram_count(rate(x[5m]))\n  or # max\n  rate(x_count[5m])\n)":  nil,
		`label_replace(max by (a) (x), "instance", "all", "", "")`:                  nil,
		// Not taken once, whatever else has the words in it.
		`x`:                          {"x"},
		`sum(x)`:                     {"x"},
		`x{instance="a:1"}`:          {"x"},
		`sum by (instance) (x)`:      {"x"},
		`max by (instance) (x)`:      {"x"},
		`max without (a) (x)`:        {"x"},
		`max(sum by (a) (x))`:        {"x"},
		`max(x) + sum(y)`:            {"y"},
		`max(x) or y`:                {"y"},
		`sum(x) / max(y)`:            {"x"},
		`sum(x and on (instance) z)`: {"x", "z"},
		`sum(x and on (job, instance) topk(2, y))`: {"y", "x"},
		`max_over_time(x[5m])`:                     {"x"},
		`sum(x) # max`:                             {"x"},
		`sum(x{a="max by (instance)"})`:            {"x"},
		`quantile(0.5, x)`:                         {"x"},
		`topk(5, x)`:                               {"x"},
		`sum(x) by (instance)`:                     {"x"},
		`(x) * on (instance) group_left () max(y)`: {"x"},
	}
	for expr, want := range tests {
		var got []string
		for _, s := range PerExporter(expr) {
			got = append(got, s.Metric)
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", expr, diff)
		}
	}
}
