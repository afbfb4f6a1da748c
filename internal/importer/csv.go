package importer

import (
	"fmt"
	"strings"

	"github.com/city-chain/holdfast/pkg/events"
)

// Header is the header of a CSV file of holds. An empty end is that of a hold that is still open.
const Header = "token_id,holder_id,start,end,weight"

var columns = [...]string{"token_id", "holder_id", "start", "end", "weight"}

// The standard library's reader of CSV stops at the first broken quote, and cannot say how much a record has taken.
// Here the first line of what is broken is refused and reading goes on with the next: a quote that somebody forgot
// costs its line, not the rest of the file.

// skipCSVHeader returns the length of the header line.
func skipCSVHeader(text string) (int, error) {
	var fields [len(columns)]string
	count, length, refusal := splitCSV(text[:min(len(text), MaxLine)], columns[:], fields[:])
	if refusal == nil && count == len(columns) && fields == columns {
		return length, nil
	}
	if strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") {
		return 0, fmt.Errorf("%w: it is in UTF-16: save it in UTF-8", ErrFormat)
	}
	first := strings.TrimRight(text[:firstLine(text)], "\r\n")
	if strings.Contains(first, "from") && strings.Contains(first, "to") && strings.Contains(first, "value") {
		return 0, fmt.Errorf("%w: line 1 is %s, which looks like transfers: make changes of balances of them first, two rows of %s for each", ErrFormat, quote(first), DeltasHeader)
	}
	return 0, fmt.Errorf("%w: line 1 is %s: a CSV file begins with the header %s, or for changes of balances %s; a file of NDJSON is named .ndjson or .jsonl, or begins with {",
		ErrFormat, quote(first), Header, DeltasHeader)
}

// readCSV reads a record.
func readCSV(text string, b *block) (int, *events.Refusal) {
	var fields [len(columns)]string
	count, length, refusal := splitCSV(text, columns[:], fields[:])
	record := text[:length]
	if refusal == nil && length == MaxLine && record[length-1] != '\n' {
		refusal = errTooLong
	}
	if refusal == nil && count == 1 && fields[0] == "" && record[0] != '"' {
		return length, nil // a blank line
	}
	if refusal == nil && count != len(columns) {
		refusal = events.Refuse(events.Malformed, "", "%d columns, where there are %d: %s", count, len(columns), Header)
	}
	if refusal != nil {
		length = firstLine(text)
		if tooLong(text[:length]) {
			refusal = errTooLong
		}
		return length, refusal
	}
	if strings.IndexByte(record, 0) >= 0 {
		return length, events.Refuse(events.Malformed, "", "a NUL byte, which no text has: is the file damaged?")
	}
	hold, refusal := holdOf(&fields)
	if refusal != nil {
		return length, refusal
	}
	return length, b.hold(hold)
}

// holdOf returns the hold that a record says, if it is valid.
func holdOf(fields *[len(columns)]string) (events.HoldEvent, *events.Refusal) {
	e := events.HoldEvent{Kind: events.KindHold, Token: fields[0], Holder: fields[1], End: events.Open}
	var err error
	if fields[2] == "" {
		return e, events.Refuse(events.MissingField, "start", "it is empty")
	}
	if e.Start, err = events.ParseTime(fields[2]); err != nil {
		return e, events.Refuse(events.InvalidTime, "start", "%v", err)
	}
	if fields[3] != "" {
		if e.End, err = events.ParseTime(fields[3]); err != nil {
			return e, events.Refuse(events.InvalidTime, "end", "%v", err)
		}
	}
	if fields[4] == "" {
		return e, events.Refuse(events.MissingField, "weight", "it is empty")
	}
	if e.Weight, err = events.ParseWeight(fields[4]); err != nil {
		return e, events.Refuse(events.InvalidWeight, "weight", "%v", err)
	}
	return e, refusalOf(e.Validate())
}

// splitCSV splits the record that text begins with, by RFC 4180. It returns how many fields there are, of which the
// first are in fields, and the length of the record with its line's end. A refusal is of the quotes, and names the column.
func splitCSV(text string, names, fields []string) (count, length int, refusal *events.Refusal) {
	for at := 0; ; {
		value, next, detail := fieldCSV(text[at:])
		if detail != "" {
			column := ""
			if count < len(names) {
				column = names[count]
			}
			return count, at, events.Refuse(events.Malformed, column, "%s", detail)
		}
		if count < len(fields) {
			fields[count] = value
		}
		count++
		at += next
		switch {
		case at == len(text):
			return count, at, nil
		case text[at] == ',':
			at++
		default: // a line's end
			if text[at] == '\r' {
				at++
			}
			return count, min(at+1, len(text)), nil
		}
	}
}

// fieldCSV reads the field that text begins with. It returns the length up to the comma, the line's end or the
// end of the text that follows; or what is wrong.
func fieldCSV(text string) (value string, length int, wrong string) {
	if len(text) > 0 && text[0] == '"' {
		return quotedCSV(text)
	}
	for i := range len(text) {
		switch text[i] {
		case ',':
			return text[:i], i, ""
		case '\n':
			end := i
			if i > 0 && text[i-1] == '\r' {
				end--
			}
			return text[:end], end, ""
		case '"':
			return "", 0, `a quote within a field that does not begin with one: quote the field and double the quotes in it`
		}
	}
	end := len(strings.TrimSuffix(text, "\r"))
	return text[:end], end, ""
}

// notClosed is what is wrong with a quote that is not closed where it should be, and notClosedYet with one of which the
// end may still come.
const (
	notClosed    = "a quote is opened and not closed"
	notClosedYet = notClosed + " in all that follows"
)

// quotedCSV is fieldCSV for a field in quotes.
func quotedCSV(text string) (value string, length int, wrong string) {
	doubled := false
	for at := 1; ; at += 2 {
		i := strings.IndexByte(text[at:], '"')
		if i < 0 {
			return "", 0, notClosedYet
		}
		at += i
		rest := text[at+1:]
		if strings.HasPrefix(rest, `"`) {
			doubled = true
			continue
		}
		if rest != "" && rest[0] != ',' && rest[0] != '\n' && rest != "\r" && !strings.HasPrefix(rest, "\r\n") {
			if strings.IndexByte(text[:at], '\n') >= 0 {
				return "", 0, notClosed // what looks like its end is another line's
			}
			return "", 0, "a quote is closed and text follows: double a quote that belongs to the field"
		}
		value = text[1:at]
		if doubled {
			value = strings.ReplaceAll(value, `""`, `"`)
		}
		return value, at + 1, ""
	}
}
