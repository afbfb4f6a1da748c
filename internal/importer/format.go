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
)

// byteOrderMark may begin a file in UTF-8.
const byteOrderMark = "\ufeff"

// formatOf tells a file's format: by its extension, "holds.csv.refused" being like "holds.csv", otherwise by whether
// its first character opens a JSON object.
func formatOf(file string, beginning []byte) Format {
	extension := strings.ToLower(filepath.Ext(trimRefused(file)))
	switch extension {
	case ".csv":
		return CSV
	case ".ndjson", ".jsonl":
		return NDJSON
	}
	text := strings.TrimLeft(strings.TrimPrefix(string(beginning[:min(len(beginning), MaxLine)]), byteOrderMark), " \t\r\n")
	if strings.HasPrefix(text, "{") {
		return NDJSON
	}
	return CSV
}

// skipHeader returns the length of the header that the beginning of a file must have.
func (f Format) skipHeader(text string) (int, error) {
	if f == NDJSON {
		return 0, nil
	}
	return skipCSVHeader(text)
}

// header is what a file of refused lines begins with, so that it is a file of its own.
func (f Format) header() string {
	if f == NDJSON {
		return ""
	}
	return Header + "\n"
}

// read reads the line, or the record of several lines, that text begins with, and adds its event to b if it has
// one. It returns the length with the line's end. Text is MaxLine bytes, or less if it is all there is.
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
