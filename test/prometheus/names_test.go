package prometheus

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNames(t *testing.T) {
	metric := func(name string, match ...string) Series {
		s := Series{Metric: name, Match: map[string]string{}}
		for i := 0; i < len(match); i += 2 {
			s.Match[match[i]] = match[i+1]
		}
		return s
	}
	tests := map[string]struct {
		selectors []Series
		labels    []string
	}{
		`up`: {[]Series{metric("up")}, nil},
		`sum by (a, b) (rate(x_total{c="d", e=~"f|g"}[5m])) > 2e3`:                           {[]Series{metric("x_total", "c", "d")}, []string{"a", "b", "c", "e"}},
		`sum(rate(x[5m] offset 1h)) without (c) / on (d) group_left () y`:                    {[]Series{metric("x"), metric("y")}, []string{"c", "d"}},
		`a:b:c and (d unless e) # f`:                                                         {[]Series{metric("a:b:c"), metric("d"), metric("e")}, nil},
		`time() - max by (p) (x_seconds) < 120`:                                              {[]Series{metric("x_seconds")}, []string{"p"}},
		`rate({__name__=~"x_(a|b)_total", code!="5"}[5m])`:                                   {[]Series{metric("", "__name__", "x_(a|b)_total")}, []string{"code"}},
		`histogram_quantile(0.99, sum by (le) (x_bucket)) or label_replace(y, 'q','','','')`: {[]Series{metric("x_bucket"), metric("y")}, []string{"le"}},
		`absent(up{job="ingest"} == bool 1) + Inf`:                                           {[]Series{metric("up", "job", "ingest")}, []string{"job"}},
		`topk(5, x) * -1 ^ y{}`:                                                              {[]Series{metric("x"), metric("y")}, nil},
	}
	for expr, want := range tests {
		selectors, labels := Names(expr)
		if diff := cmp.Diff(want.selectors, selectors); diff != "" {
			t.Errorf("%s: selectors (-want +got):\n%s", expr, diff)
		}
		if diff := cmp.Diff(want.labels, labels); diff != "" {
			t.Errorf("%s: labels (-want +got):\n%s", expr, diff)
		}
	}
}
