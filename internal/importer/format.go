package importer

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/city-chain/holdfast/pkg/events"
)

// Format is how a file says its events.
type Format string

// The formats.
const (
	CSV    Format = "csv"    // RFC 4180 with the header Header; each record is a hold
	NDJSON Format = "ndjson" // one event in the open form a line, of either log
	Deltas Format = "deltas" // CSV with the columns of DeltasHeader in any order; each row changes a balance
	NATS   Format = "nats"   // the messages of another stream; see [Importer.Copy]
)

// Formats returns the formats that a file may have.
func Formats() []Format { return []Format{CSV, NDJSON, Deltas} }

// byteOrderMark may begin a file in UTF-8.
const byteOrderMark = "\ufeff"

// formatOf tells a file's format: by its extension, "holds.csv.refused" being like "holds.csv", otherwise by whether
// its first character opens a JSON object. Of what is CSV, the header tells whether it has deltas.
func formatOf(file string, beginning []byte) Format {
	text := strings.TrimPrefix(string(beginning[:min(len(beginning), MaxLine)]), byteOrderMark)
	extension := strings.ToLower(filepath.Ext(trimRefused(file)))
	switch {
	case extension == ".ndjson", extension == ".jsonl",
		extension != ".csv" && strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{"):
		return NDJSON
	}
	if _, _, ok := deltasHeader(text); ok {
		return Deltas
	}
	return CSV
}

// skipHeader returns the length of the header that the beginning of a file must have.
func (f Format) skipHeader(text string) (int, error) {
	switch f {
	case NDJSON:
		return 0, nil
	case Deltas:
		return skipDeltasHeader(text)
	}
	return skipCSVHeader(text)
}

// header is what a file of refused lines begins with, so that they can be read like those of the file itself, which begins
// with beginning.
func (f Format) header(beginning []byte) string {
	switch f {
	case CSV:
		return Header + "\n"
	case Deltas:
		order, _, _ := deltasHeader(strings.TrimPrefix(string(beginning[:min(len(beginning), MaxLine)]), byteOrderMark))
		return order.header() + "\n"
	}
	return ""
}

// read reads the line, or the record of several lines, that text begins with, and adds its event to b if it has
// one. It returns the length with the line's end. Text is MaxLine bytes, or less if it is all there is. Rows of deltas are
// read by accounts, which knows the balances.
func (f Format) read(text string, b *block) (int, *events.Refusal) {
	if f == NDJSON {
		return readNDJSON(text, b)
	}
	return readCSV(text, b)
}

// Refused is a broken line, as an error.
type Refused struct {
	File string // as it was given
	Line int64  // from 1; the first line of a record that is quoted over several
	*events.Refusal
}

// Error returns, for example, `holds.csv:7: weight: "x" is not a weight: … (invalid_weight)`.
func (r Refused) Error() string {
	field := ""
	if r.Field != "" {
		field = r.Field + ": "
	}
	return fmt.Sprintf("%s:%d: %s%s (%s)", r.File, r.Line, field, r.Detail, r.Reason)
}

// firstLine returns the length of the line that text begins with, its end included; all of text if it has no end.
func firstLine(text string) int {
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		return i + 1
	}
	return len(text)
}

// refusalOf returns an error of package events as what it is.
func refusalOf(err error) *events.Refusal {
	if err == nil {
		return nil
	}
	refusal, ok := errors.AsType[*events.Refusal](err)
	if !ok {
		return events.Refuse(events.Malformed, "", "%v", err)
	}
	return refusal
}

var errTooLong = events.Refuse(events.Malformed, "", "the line is longer than %d bytes", MaxLine)

// quote shows a text of a file in a message: quoted, on one line, cut.
func quote(s string) string {
	const most = 64
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "…"
	}
	return strconv.QuoteToASCII(s)
}
