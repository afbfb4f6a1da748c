package collect

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/city-chain/holdfast/pkg/events"
)

// Other is the method and the route of requests that would be a series too many.
const Other = "other"

// nameless stands for a method or route that is empty.
const nameless = "unknown"

// index has all cells. It is replaced, never changed.
type index struct {
	cells  []*cell
	series map[seriesKey]*cell // those of requests
	table  table               // the same, to be found at once
	proper int                 // how many of the series are not for what is over the limit
	shards int                 // of each cell
	closed bool                // no cell is added any more
}

// seriesKey names the requests that are counted together.
type seriesKey struct {
	kind   events.Kind // http or grpc
	status uint16      // or the code
	method string      // or the full method
	route  string      // "" for grpc
}

// seek returns the cell of a series that the index does not have by this name: a new one, or the one for what is over the limit; nil
// if the collector is closed.
func (c *Collector) seek(key seriesKey) *cell {
	clean := key.clean()
	if clean != key {
		c.note(InvalidName)
		if cell := c.series.Load().series[clean]; cell != nil {
			return cell
		}
	}
	known := c.series.Load()
	if known.proper >= c.options.MaxSeries {
		clean = clean.beyond()
		c.note(TooManySeries)
		if cell := known.series[clean]; cell != nil {
			return cell
		}
	}
	c.growing.Lock()
	defer c.growing.Unlock()
	known = c.series.Load()
	if cell := known.series[clean]; cell != nil {
		return cell
	}
	if known.closed {
		return nil
	}
	proper := known.proper
	switch {
	case clean == clean.beyond():
	case proper < c.options.MaxSeries:
		proper++
	default: // others were faster
		clean = clean.beyond()
		c.note(TooManySeries)
		if cell := known.series[clean]; cell != nil {
			return cell
		}
	}
	clean.method, clean.route = strings.Clone(clean.method), strings.Clone(clean.route) // they may be parts of something large
	e := events.PoHEvent{Of: clean.kind, Method: clean.method, Route: clean.route, Status: clean.status}
	cell := c.newCell(e, true, known.shards)
	grown := *known
	grown.proper = proper
	grown.cells = append(slices.Clip(known.cells), cell)
	grown.series = maps.Clone(known.series)
	grown.series[clean] = cell
	grown.table = newTable(grown.series)
	c.series.Store(&grown)
	return cell
}

// beyond returns the series that one over the limit is counted in. There are 9 of HTTP and 17 of gRPC.
func (k seriesKey) beyond() seriesKey {
	k.method = Other
	if k.kind == events.KindHTTP {
		k.route = Other
		k.status -= k.status % 100
	}
	return k
}

// clean returns the key with names that an event may have.
func (k seriesKey) clean() seriesKey {
	k.method = cleanName(k.method)
	if k.kind == events.KindHTTP {
		k.route = cleanName(k.route)
	}
	return k
}

// cleanName returns a name that is an id: what is not UTF-8 is replaced by U+FFFD, the whole is put into normal form C, what is
// too long ends in "…", and nothing becomes "unknown".
func cleanName(s string) string {
	if s == "" {
		return nameless
	}
	if len(s) > 8*events.MaxID {
		s = s[:8*events.MaxID] // of which what is below uses a part only
	}
	s = norm.NFC.String(strings.ToValidUTF8(s, string(utf8.RuneError)))
	if len(s) <= events.MaxID {
		return s
	}
	const mark = "…"
	cut := events.MaxID - len(mark)
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + mark
}
