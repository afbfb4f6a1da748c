package service

import (
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Observe adds how long a request took to a histogram of seconds. If the request's header says by traceparent that it
// belongs to a trace that is recorded, the observation has that as its exemplar: labels trace_id and span_id.
func Observe(to prometheus.Observer, took time.Duration, header http.Header) {
	if trace := sampledTrace(header); trace != nil {
		to.(prometheus.ExemplarObserver).ObserveWithExemplar(took.Seconds(), trace) // as every histogram of the library is
		return
	}
	to.Observe(took.Seconds())
}

// sampledTrace returns the trace that a request belongs to, as the labels of an exemplar, trace_id and span_id; nil if it
// says none, says it wrongly, or the trace is not recorded. The format is that of W3C Trace Context,
// https://www.w3.org/TR/trace-context/#traceparent-header:
//
//	version "-" trace-id "-" parent-id "-" trace-flags     in lower-case hexadecimal digits: 2, 32, 16 and 2 of them
//
// Of version 00 there is nothing behind the flags; of a later one there may be more behind another "-".
func sampledTrace(header http.Header) prometheus.Labels {
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	values := header.Values("Traceparent")
	if len(values) != 1 || len(values[0]) < length {
		return nil
	}
	text, more := values[0][:length], values[0][length:]
	version, trace, span, flags := text[:2], text[3:35], text[36:52], text[53:]
	switch {
	case text[2] != '-' || text[35] != '-' || text[52] != '-':
		return nil
	case !isHex(version) || !isHex(trace) || !isHex(span) || !isHex(flags):
		return nil
	case version == "ff" || version == "00" && more != "" || more != "" && more[0] != '-':
		return nil
	case strings.Trim(trace, "0") == "" || strings.Trim(span, "0") == "":
		return nil
	case strings.IndexByte("13579bdf", flags[1]) < 0: // the lowest bit: sampled
		return nil
	}
	return prometheus.Labels{"trace_id": trace, "span_id": span}
}

func isHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }
