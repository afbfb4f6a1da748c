package audit

import (
	"cmp"
	"slices"
)

// MaxDifferences is how many differences a report explains; the others are counted.
const MaxDifferences = 20

// Verdict is what an audit came to.
type Verdict string

const (
	// Same: everything that is stored follows from the streams, digit by digit.
	Same Verdict = "same"
	// Different: something does not.
	Different Verdict = "different"
	// Unknown: no difference was found, and something could not be compared.
	Unknown Verdict = "could not tell"
)

// Report is what an audit found.
type Report struct {
	Verdict     Verdict      `json:"verdict"`
	Differences []Difference `json:"differences"` // the first MaxDifferences
	More        int          `json:"more"`        // how many others there are
	Untold      []string     `json:"could_not_tell"`
	Notes       []string     `json:"notes"` // what is no difference and should be known
	Compared    Compared     `json:"compared"`
	Cuts        []Cut        `json:"cuts"`
}

// Compared is how much was compared.
type Compared struct {
	Messages   uint64 `json:"messages"` // read
	Events     uint64 `json:"events"`   // folded
	Partitions int    `json:"partitions"`
	Slots      int    `json:"slots"`
	Holders    int    `json:"holders"`
	Nodes      int    `json:"nodes"`
	Rejections int    `json:"rejections"`
	// Checkpoints is how many signed checkpoints were compared.
	Checkpoints int `json:"checkpoints"`
}

// Cut is up to where a partition was compared: its checkpoint's sequence.
type Cut struct {
	Stream    string `json:"stream"`
	Partition int    `json:"partition"`
	Sequence  uint64 `json:"sequence"`
	Revision  uint64 `json:"revision"` // of the checkpoint
}

// Difference is something that is stored otherwise than it follows from the stream.
type Difference struct {
	Stream      string  `json:"stream"`
	Partition   int     `json:"partition"`   // -1: of the whole stream
	Key         string  `json:"key"`         // of the bucket, or the subject of a rejection; empty for a message
	Of          string  `json:"of"`          // the holder or node; empty: of none
	Values      []Value `json:"values"`      // what differs in it
	Explanation string  `json:"explanation"` // what is wrong, as far as it can be told
	Message     *Place  `json:"message"`     // the event that explains it; null: not known
}

// Value is a value that is stored otherwise than replayed; empty where there is none.
type Value struct {
	What     string `json:"what"`
	Stored   string `json:"stored"`
	Replayed string `json:"replayed"`
}

// Place is where an event stands in its stream.
type Place struct {
	Sequence uint64 `json:"sequence"`
	Index    int    `json:"index"`
}

// Untold returns the report of an audit that an error has kept from telling anything.
func Untold(err error) *Report {
	r := &Report{Untold: []string{err.Error()}, Cuts: []Cut{}}
	r.finish(nil)
	return r
}

// finish sorts what was found and says what it comes to.
func (r *Report) finish(found []Difference) {
	slices.SortStableFunc(found, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.rank(), b.rank()), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Of, b.Of))
	})
	n := min(len(found), MaxDifferences)
	r.Differences, r.More = append([]Difference{}, found[:n]...), len(found)-n
	slices.Sort(r.Untold)
	if r.Untold == nil {
		r.Untold = []string{}
	}
	if r.Notes == nil {
		r.Notes = []string{}
	}
	switch {
	case len(found) > 0:
		r.Verdict = Different
	case len(r.Untold) > 0:
		r.Verdict = Unknown
	default:
		r.Verdict = Same
	}
}

// rank puts differences of holders, which explain, before those of what they add up to.
func (d *Difference) rank() int {
	if d.Of == "" && d.Partition >= 0 {
		return 1
	}
	return 0
}
