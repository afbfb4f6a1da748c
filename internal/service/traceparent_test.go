package service

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	traceID     = "0af7651916cd43dd8448eb211c80319c"
	spanID      = "b7ad6b7169203331"
	traceparent = "00-" + traceID + "-" + spanID + "-01"
)

func TestSampledTrace(t *testing.T) {
	labels := prometheus.Labels{"trace_id": traceID, "span_id": spanID}
	for name, test := range map[string]struct {
		values []string
		want   prometheus.Labels
	}{
		"sampled":                        {[]string{traceparent}, labels},
		"sampled, with other flags":      {[]string{"00-" + traceID + "-" + spanID + "-0b"}, labels},
		"a later version":                {[]string{"cc-" + traceID + "-" + spanID + "-01"}, labels},
		"a later version that says more": {[]string{"cc-" + traceID + "-" + spanID + "-01-what the future will be like"}, labels},
		"none":                           {nil, nil},
		"empty":                          {[]string{""}, nil},
		"two":                            {[]string{traceparent, traceparent}, nil},
		"not sampled":                    {[]string{"00-" + traceID + "-" + spanID + "-00"}, nil},
		"not sampled, with other flags":  {[]string{"00-" + traceID + "-" + spanID + "-fe"}, nil},
		"version ff":                     {[]string{"ff-" + traceID + "-" + spanID + "-01"}, nil},
		"version 00 that says more":      {[]string{traceparent + "-more"}, nil},
		"a later version, run together":  {[]string{"cc-" + traceID + "-" + spanID + "-01.more"}, nil},
		"upper case":                     {[]string{strings.ToUpper(traceparent)}, nil},
		"no trace":                       {[]string{"00-" + strings.Repeat("0", 32) + "-" + spanID + "-01"}, nil},
		"no span":                        {[]string{"00-" + traceID + "-" + strings.Repeat("0", 16) + "-01"}, nil},
		"too short":                      {[]string{traceparent[:54]}, nil},
		"a blank in front":               {[]string{" " + traceparent}, nil},
		"no hexadecimal digit":           {[]string{"00-" + traceID[:31] + "g-" + spanID + "-01"}, nil},
		"other separators":               {[]string{"00_" + traceID + "_" + spanID + "_01"}, nil},
	} {
		got := sampledTrace(http.Header{"Traceparent": test.values})
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// What is taken for a trace fits an exemplar, and is written as it came.
func FuzzSampledTrace(f *testing.F) {
	f.Add(traceparent)
	f.Add("cc-" + traceID + "-" + spanID + "-01-more")
	f.Add("00-" + traceID + "-" + spanID + "-00")
	f.Add("")
	f.Fuzz(func(t *testing.T, value string) {
		labels := sampledTrace(http.Header{"Traceparent": {value}})
		if labels == nil {
			return
		}
		if len(labels) != 2 || len(labels["trace_id"]) != 32 || len(labels["span_id"]) != 16 || !isHex(labels["trace_id"]+labels["span_id"]) {
			t.Errorf("%q: %v", value, labels)
		}
		if !strings.HasPrefix(value[3:], labels["trace_id"]+"-"+labels["span_id"]+"-") {
			t.Errorf("%q: %v is not what it says", value, labels)
		}
	})
}
