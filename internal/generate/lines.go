package generate

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/city-chain/holdfast/pkg/events"
)

// CSVHeader is the first line of a file of holds in CSV.
const CSVHeader = "token_id,holder_id,start,end,weight"

// AppendJSON appends an event in the open form, as a line of NDJSON, with its end.
func AppendJSON(b []byte, e Event) []byte {
	switch {
	case e.Hold != nil:
		b = appendHold(b, e.Hold)
	case e.PoH != nil:
		b = appendReport(b, e.PoH)
	default:
		return append(append(b, e.Line...), '\n')
	}
	return append(b, "}\n"...)
}

func appendHold(b []byte, e *events.HoldEvent) []byte {
	b = appendText(b, `{"kind":`, e.Kind.String())
	if e.Token != "" {
		b = appendText(b, `,"token_id":`, e.Token)
	}
	b = appendText(b, `,"holder_id":`, e.Holder)
	if e.HoldID != "" {
		b = appendText(b, `,"hold_id":`, e.HoldID)
	}
	switch e.Kind {
	case events.KindHold:
		b = appendInstant(append(b, `,"start":`...), e.Start)
		if e.End != events.Open {
			b = appendInstant(append(b, `,"end":`...), e.End)
		}
	case events.KindRelease:
		return appendInstant(append(b, `,"end":`...), e.End)
	case events.KindBalance:
		b = appendInstant(append(b, `,"at":`...), e.Start)
	}
	b = append(appendWeight(append(b, `,"weight":"`...), e.Weight), '"') // a text: readers in other languages keep its digits so
	if e.Rev != 0 {
		b = strconv.AppendUint(append(b, `,"rev":`...), uint64(e.Rev), 10)
	}
	return b
}

func appendReport(b []byte, e *events.PoHEvent) []byte {
	b = appendText(b, `{"kind":`, e.Kind.String())
	b = appendText(b, `,"node":`, e.Node)
	switch e.Kind {
	case events.KindIssued, events.KindVerified:
		b = appendText(b, `,"result":`, e.Result.String())
	case events.KindGC:
		return appendText(b, `,"type":`, e.GC.String())
	case events.KindPeers:
		return strconv.AppendUint(append(b, `,"count":`...), e.Peers, 10)
	case events.KindHTTP:
		b = appendText(b, `,"method":`, e.Method)
		if e.Route != "" {
			b = appendText(b, `,"route":`, e.Route)
		}
		b = strconv.AppendUint(append(b, `,"status":`...), uint64(e.Status), 10)
	case events.KindGRPC:
		b = appendText(b, `,"method":`, e.Method)
		b = strconv.AppendUint(append(b, `,"code":`...), uint64(e.Status), 10)
	}
	return appendDecimal(append(b, `,"latency":`...), uint64(e.Latency), 9)
}

// AppendCSV appends a hold without an id, or a line that is no event, as a record of CSV, with its end.
func AppendCSV(b []byte, e Event) []byte {
	if e.Hold == nil {
		return append(append(b, e.Line...), '\n')
	}
	b = append(appendField(append(appendField(b, e.Hold.Token), ','), e.Hold.Holder), ',')
	b = append(appendInstant(b, e.Hold.Start), ',')
	if e.Hold.End != events.Open {
		b = appendInstant(b, e.Hold.End)
	}
	return append(appendWeight(append(b, ','), e.Hold.Weight), '\n')
}

// appendField appends a text as a field of CSV, by RFC 4180.
func appendField(b []byte, s string) []byte {
	if !strings.ContainsAny(s, ",\"\r\n") {
		return append(b, s...)
	}
	return append(append(append(b, '"'), strings.ReplaceAll(s, `"`, `""`)...), '"')
}

// appendText appends what introduces a field, and a text as JSON.
func appendText(b []byte, introduction, s string) []byte {
	b = append(b, introduction...)
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c > '~' {
			text, err := json.Marshal(s)
			if err != nil {
				panic("generate: " + err.Error()) // a text can always be written
			}
			return append(b, text...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// appendInstant appends an instant in seconds.
func appendInstant(b []byte, t events.Time) []byte { return appendDecimal(b, uint64(t), 3) }

func appendWeight(b []byte, w events.Weight) []byte {
	if w.Hi == 0 {
		return appendDecimal(b, w.Lo, events.WeightDigits)
	}
	return append(b, w.String()...)
}

// powers are those of ten.
var powers = [...]uint64{3: 1_000, 9: 1_000_000_000}

// appendDecimal appends n·10^-digits as a plain decimal without trailing zeros, for 3 and 9 digits.
func appendDecimal(b []byte, n uint64, digits int) []byte {
	unit := powers[digits]
	b = strconv.AppendUint(b, n/unit, 10)
	rest := n % unit
	if rest == 0 {
		return b
	}
	b = append(b, '.')
	for rest > 0 {
		unit /= 10
		b = append(b, byte('0'+rest/unit))
		rest %= unit
	}
	return b
}
