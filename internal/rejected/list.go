package rejected

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/city-chain/holdfast/jetstream"
)

// Filter chooses rejections. What is empty chooses all.
type Filter struct {
	Stream   string
	Reason   string
	Producer string
	Since    time.Time // stored then or later
	Until    time.Time // stored before
}

func (f *Filter) match(r *Rejection) bool {
	return (f.Stream == "" || f.Stream == r.Stream) &&
		(f.Reason == "" || f.Reason == r.Reason) &&
		(f.Producer == "" || f.Producer == r.Producer) &&
		(f.Since.IsZero() || !r.At.Before(f.Since)) &&
		(f.Until.IsZero() || r.At.Before(f.Until))
}

// List shows the rejections that the filter chooses to yield, in the order in which they were refused: the last n, or all of
// them if n is 0. It ends with the first error of yield. The memory that it takes does not depend on how many rejections there
// are, but on how many were sent again: some 100 bytes for each.
func (a *Archive) List(ctx context.Context, f Filter, n int, yield func(View) error) error {
	books, err := a.currentBooks(ctx)
	if err != nil {
		return err
	}
	first, last, err := a.stream.RejectedSequences(ctx)
	if err != nil {
		return explain(err)
	}
	if n > 0 {
		if first, err = a.beginOfLast(ctx, f, n, first, last); err != nil {
			return err
		}
	}
	return a.each(ctx, f, first, last, func(r Rejection, _ uint64) error {
		return yield(view(r, books.sent(r)))
	})
}

// firstWindow is how many messages are looked at first when the last few rejections of some sort are wanted.
const firstWindow = 1000

// beginOfLast returns from where to read between first and last for the last n that the filter chooses. It looks from the
// end on, at windows that grow, so what lies at the end of a long stream is found at once.
func (a *Archive) beginOfLast(ctx context.Context, f Filter, n int, first, last uint64) (uint64, error) {
	for window, end := uint64(firstWindow), last; end >= first; window *= 4 {
		begin := first
		if end-first >= window {
			begin = end - window + 1
		}
		var found []uint64
		err := a.each(ctx, f, begin, end, func(_ Rejection, sequence uint64) error {
			found = append(found, sequence)
			return nil
		})
		if err != nil {
			return 0, err
		}
		if len(found) >= n {
			return found[len(found)-n], nil
		}
		n -= len(found)
		end = begin - 1
	}
	return first, nil
}

// each reads the rejections of REJECTED from sequence first to last, and passes those that the filter chooses, with
// their sequences in REJECTED.
func (a *Archive) each(ctx context.Context, f Filter, first, last uint64, yield func(r Rejection, sequence uint64) error) error {
	if first > last {
		return nil
	}
	reader, err := a.stream.ReadStream(ctx, jetstream.Rejected, first)
	if err != nil {
		return err
	}
	defer reader.Stop()
	for sequence := uint64(0); sequence < last; {
		m, err := reader.Next(ctx)
		if err != nil {
			return err
		}
		sequence = m.Sequence
		r, err := parse(m)
		if err != nil {
			a.Unreadable(err) // nothing else is: the stream takes whatever is published below rejected.
			continue
		}
		if sequence <= last && f.match(&r) {
			if err := yield(r, sequence); err != nil {
				return err
			}
		}
	}
	return nil
}

// Count is how many events were refused for a reason.
type Count struct {
	Stream string `json:"stream"`
	Reason string `json:"reason"`
	Count  uint64 `json:"count"`
}

// Count counts the rejections that the filter chooses by stream and reason; the most frequent come first.
func (a *Archive) Count(ctx context.Context, f Filter) ([]Count, error) {
	first, last, err := a.stream.RejectedSequences(ctx)
	if err != nil {
		return nil, explain(err)
	}
	type key struct{ stream, reason string }
	counts := map[key]uint64{}
	err = a.each(ctx, f, first, last, func(r Rejection, _ uint64) error {
		counts[key{r.Stream, r.Reason}]++
		return nil
	})
	if err != nil {
		return nil, err
	}
	list := make([]Count, 0, len(counts))
	for k, n := range counts {
		list = append(list, Count{k.stream, k.reason, n})
	}
	slices.SortFunc(list, func(x, y Count) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Stream, y.Stream), cmp.Compare(x.Reason, y.Reason))
	})
	return list, nil
}
