package importer

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/city-chain/holdfast/pkg/events"
)

// DeltasHeader is the header of a CSV file whose rows change balances. The columns may stand in any order.
const DeltasHeader = "time,holder_id,token_id,change"

// DefaultMaxBalances is how many balances the import of a file of deltas keeps in memory, if nothing else is asked for. One
// takes some 100 bytes, and each id of a holder or token some 60 and its length, once.
const DefaultMaxBalances = 4_000_000

// maxAhead is how many rows may be refused for lying ahead of the clock: the record has the line of each.
const maxAhead = 1000

// ErrTooMany says that a file of deltas, or a stream, needs more than may be kept of it. What lies before is imported, and nothing after.
var ErrTooMany = errors.New("too many to keep")

// The columns of a row of deltas.
const (
	deltaTime = iota
	deltaHolder
	deltaToken
	deltaChange
	deltaColumns
)

var deltaNames = [deltaColumns]string{"time", "holder_id", "token_id", "change"}

// deltaOrder has for each place in a row which column stands there.
type deltaOrder [deltaColumns]int

// header returns the header of rows in that order, without the line's end.
func (o deltaOrder) header() string {
	names := make([]string, deltaColumns)
	for place, column := range o {
		names[place] = deltaNames[column]
	}
	return strings.Join(names, ",")
}

// deltasHeader reads the header that text begins with, if it is one of deltas. A row is one line, its header too.
func deltasHeader(text string) (order deltaOrder, length int, ok bool) {
	length = min(firstLine(text), MaxLine)
	var fields [deltaColumns]string
	count, _, refusal := splitCSV(text[:length], deltaNames[:], fields[:])
	if refusal != nil || count != deltaColumns {
		return order, 0, false
	}
	for place, name := range fields {
		column := slices.Index(deltaNames[:], name)
		if column < 0 || slices.Contains(fields[:place], name) {
			return order, 0, false
		}
		order[place] = column
	}
	return order, length, true
}

func skipDeltasHeader(text string) (int, error) {
	if _, length, ok := deltasHeader(text); ok {
		return length, nil
	}
	first := strings.TrimRight(text[:min(firstLine(text), MaxLine)], "\r\n")
	return 0, fmt.Errorf("%w: line 1 is %s: a file of deltas begins with the header %s, its columns in any order", ErrFormat, quote(first), DeltasHeader)
}

// pair is a holder and a token, by their indices among the ids.
type pair struct{ holder, token uint32 }

// balance is what a holder has of a token, after the last row of both.
type balance struct {
	weight events.Weight
	at     events.Time
}

// accounts turns rows of deltas into balances. What becomes of a row is a function of the rows before it, of the holders
// that are ignored, and of whether it lies ahead of the clock. So nothing of the balances has to be stored: they are made
// again from the beginning of the file, which is read anyway, and the record has the lines that lay ahead when they were read.
//
// A row is a line. Quotes may not reach over a line's end, since what a row is must not depend on where the file ended when
// it was read.
type accounts struct {
	ignored map[string]bool // holders
	ahead   map[int64]bool  // lines
	again   bool            // rows are read that were read before: ahead decides, not the clock, and no events are made
	most    int             // balances

	order    deltaOrder
	ids      []string
	indices  map[string]uint32 // of ids
	balances map[pair]balance

	err error // why reading cannot go on
}

func newAccounts(rec *deltasRecord, most int) *accounts {
	a := &accounts{ignored: map[string]bool{}, ahead: map[int64]bool{}, most: most, indices: map[string]uint32{}, balances: map[pair]balance{}}
	for _, holder := range rec.Ignored {
		a.ignored[holder] = true
	}
	for _, line := range rec.Ahead {
		a.ahead[line] = true
	}
	return a
}

// read reads the row that text begins with, which is on that line of the file, and adds its balance to b. It returns the
// length with the line's end. If err is set afterwards, the row was not taken.
func (a *accounts) read(text string, line int64, b *block) (int, *events.Refusal) {
	length := firstLine(text)
	text = text[:length]
	if tooLong(text) {
		return length, errTooLong
	}
	var fields [deltaColumns]string
	names := a.names()
	count, _, refusal := splitCSV(text, names[:], fields[:])
	switch {
	case refusal != nil:
		return length, refusal
	case count == 1 && fields[0] == "" && text[0] != '"':
		return length, nil // a blank line
	case count != deltaColumns:
		return length, events.Refuse(events.Malformed, "", "%d columns, where there are %d: %s", count, deltaColumns, a.order.header())
	case strings.IndexByte(text, 0) >= 0:
		return length, events.Refuse(events.Malformed, "", "a NUL byte, which no text has: is the file damaged?")
	}
	var row [deltaColumns]string
	for place, column := range a.order {
		row[column] = fields[place]
	}
	if a.ignored[row[deltaHolder]] {
		b.totals.Skipped++
		return length, nil
	}
	return length, a.row(&row, line, b)
}

// names returns the columns' names in the order of the file.
func (a *accounts) names() (names [deltaColumns]string) {
	for place, column := range a.order {
		names[place] = deltaNames[column]
	}
	return names
}

// row takes a row's change into the balance, or refuses it, which leaves the balance as it was.
func (a *accounts) row(row *[deltaColumns]string, line int64, b *block) *events.Refusal {
	for _, column := range []int{deltaTime, deltaChange} {
		if row[column] == "" {
			return events.Refuse(events.MissingField, deltaNames[column], "it is empty")
		}
	}
	e := events.HoldEvent{Kind: events.KindBalance, Token: row[deltaToken], Holder: row[deltaHolder]}
	var err error
	if e.Start, err = events.ParseTime(row[deltaTime]); err != nil {
		return events.Refuse(events.InvalidTime, "time", "%v", err)
	}
	if err := e.Validate(); err != nil {
		return refusalOf(err)
	}
	change, negative, err := parseChange(row[deltaChange])
	if err != nil {
		return events.Refuse(events.InvalidWeight, "change", "%v", err)
	}
	key, known := a.pair(e.Holder, e.Token)
	was, there := a.balances[key]
	there = there && known
	if !there {
		was = balance{}
	}
	if e.Start < was.at {
		return events.Refuse(events.BalanceOutOfOrder, "time", "%s lies before the last row of this holder and token, %s: rows of both are in the order of time", e.Start, was.at)
	}
	var refusal *events.Refusal
	if e.Weight, refusal = was.weightAfter(change, negative); refusal != nil {
		return refusal
	}
	if refusal := a.checkAhead(&e, line, b); refusal != nil || a.err != nil {
		return refusal
	}
	if !there {
		if len(a.balances) >= a.most {
			a.err = fmt.Errorf("%w: line %d has balance number %d, of %s by %s: at most %d are kept in memory; allow more (--max-balances, or Options.MaxBalances) and import again, it goes on here",
				ErrTooMany, line, len(a.balances)+1, quote(e.Token), quote(e.Holder), a.most)
			return nil
		}
		key = pair{a.index(e.Holder), a.index(e.Token)}
	}
	a.balances[key] = balance{e.Weight, e.Start}
	b.totals.Events++
	if !a.again {
		e.Holder, e.Token = a.ids[key.holder], a.ids[key.token] // so that nothing keeps the block's text
		b.holds = append(b.holds, e)
	}
	return nil
}

// checkAhead refuses what lies too far ahead of the block's clock, or what did so when it was first read.
func (a *accounts) checkAhead(e *events.HoldEvent, line int64, b *block) *events.Refusal {
	if a.again {
		if a.ahead[line] {
			return events.Refuse(events.StartAhead, "time", "%s was ahead of the clock when it was first read", e.Start)
		}
		return nil
	}
	refusal := refusalOf(e.CheckAhead(b.clock))
	if refusal == nil {
		return nil
	}
	if !a.ahead[line] {
		if len(a.ahead) >= maxAhead {
			a.err = fmt.Errorf("%w: line %d lies ahead of the clock, %s, and so did %d rows before it: are this machine's clock and the file's times right? It goes on here when they are",
				ErrTooMany, line, b.clock, maxAhead)
			return nil
		}
		a.ahead[line] = true
		b.ahead = append(b.ahead, line)
	}
	return events.Refuse(refusal.Reason, "time", "%s", refusal.Detail)
}

// pair returns the pair of a holder and a token, and whether both ids are known.
func (a *accounts) pair(holder, token string) (pair, bool) {
	h, knownHolder := a.indices[holder]
	t, knownToken := a.indices[token]
	return pair{h, t}, knownHolder && knownToken
}

// index returns the index of an id, a new one if it is new.
func (a *accounts) index(id string) uint32 {
	i, known := a.indices[id]
	if !known {
		id = strings.Clone(id)
		i = uint32(len(a.ids))
		a.ids = append(a.ids, id)
		a.indices[id] = i
	}
	return i
}

// weightAfter returns the balance after a change, if it is one.
func (b balance) weightAfter(change events.Weight, negative bool) (events.Weight, *events.Refusal) {
	if negative {
		lo, borrow := bits.Sub64(b.weight.Lo, change.Lo, 0)
		hi, borrow := bits.Sub64(b.weight.Hi, change.Hi, borrow)
		if borrow != 0 {
			return b.weight, events.Refuse(events.InvalidWeight, "change", "the balance is %s, and %s less is below zero", b.weight, change)
		}
		return events.Weight{Hi: hi, Lo: lo}, nil
	}
	lo, carry := bits.Add64(b.weight.Lo, change.Lo, 0)
	after := events.Weight{Hi: b.weight.Hi + change.Hi + carry, Lo: lo} // both are at most 2^96·10^9, so their sum fits
	if after.Cmp(events.MaxWeight) > 0 {
		return b.weight, events.Refuse(events.InvalidWeight, "change", "the balance is %s, and %s more is over the largest weight, 2^96", b.weight, change)
	}
	return after, nil
}

// parseChange reads a change: a decimal of at most 2^96 either way, with at most 9 fraction digits.
func parseChange(s string) (size events.Weight, negative bool, err error) {
	digits, negative := strings.CutPrefix(s, "-")
	if negative && (digits == "" || digits[0] == '-' || digits[0] == '+') {
		return events.Weight{}, false, fmt.Errorf("%s is not a change of a balance: a decimal, such as 2.5 or -2.5", quote(s))
	}
	size, err = events.ParseWeight(digits)
	return size, negative, err
}
