package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/city-chain/holdfast/internal/rejected"
	"github.com/city-chain/holdfast/internal/service"
)

// rejectedRetry sends refused events again.
type rejectedRetry struct {
	IDs []string `arg:"" optional:"" name:"id" help:"Ids, such as HOLDS.17.0."`
	All bool     `env:"-" help:"All that were refused until now, or those that the filters choose. What was sent again before, and was refused again, is left out unless it is named by its id or by --producer; so is what was refused for its batch's numbers (stale_epoch, too_many_gaps, too_many_producers), unless --reason says so, as another copy of it may have been accepted."`
	rejectionFilter
	service.NATSFlags
	jobFlags
}

// Validate is called when the flags are parsed.
func (c rejectedRetry) Validate() error {
	switch {
	case c.All == (len(c.IDs) > 0):
		return errors.New("give the ids of refused events, or --all, and not both")
	case !c.All && c.rejectionFilter != rejectionFilter{}:
		return errors.New("--stream, --reason, --producer, --since and --until go with --all, not with ids")
	}
	_, errIDs := c.ids()
	_, errFilter := c.filter()
	return errors.Join(errIDs, errFilter, c.NATSFlags.Validate(), c.jobFlags.Validate())
}

func (c *rejectedRetry) ids() ([]rejected.ID, error) {
	var ids []rejected.ID
	for _, text := range c.IDs {
		id, err := rejected.ParseID(text)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (c *rejectedRetry) run(ctx context.Context, s *session) error {
	f := begin("holdfast_rejected_retry")
	summary, err := c.retry(ctx, s)
	f.add("events", "Events that the last run sent again.", float64(summary.Sent+summary.Finished))
	f.add("impossible_events", "Events that the last run was to send and could not.", float64(summary.Impossible))
	c.tell(ctx, s, f, err)
	return err
}

func (c *rejectedRetry) retry(ctx context.Context, s *session) (summary rejected.Summary, err error) {
	ids, errIDs := c.ids()
	filter, errFilter := c.filter()
	if err := errors.Join(errIDs, errFilter); err != nil {
		return summary, err
	}
	archive, disconnect, err := openArchive(ctx, c.NATSFlags, s)
	if err != nil {
		return summary, err
	}
	defer disconnect()
	report := retryReport{session: s, each: !c.All}
	if c.All {
		summary, err = archive.RetryAll(ctx, filter, report.outcome, report.progress)
	} else {
		summary, err = archive.Retry(ctx, ids, report.outcome)
	}
	report.clear()
	report.sum(summary)
	switch {
	case err != nil:
		return summary, fmt.Errorf("%w (run it again: it goes on where it was)", err)
	case !c.All && summary.Impossible > 0:
		return summary, errSaid
	}
	return summary, nil
}

// retryReport says what becomes of refused events that are sent again.
type retryReport struct {
	*session
	each    bool // say it of each, not only of those that cannot be sent
	refused int
	bar     *progressbar.ProgressBar
}

// maxImpossible is how many rejections that cannot be sent again are told of one by one, where all are to be sent.
const maxImpossible = 20

func (r *retryReport) outcome(o rejected.Outcome) {
	switch {
	case o.Err != nil:
		if r.refused++; r.each || r.refused <= maxImpossible {
			r.clear()
			fmt.Fprintln(r.stderr, impossible(o))
		}
	case !r.each:
	case o.Before:
		fmt.Fprintf(r.stdout, "%s: was sent again before, at %s, as number %d of partition %d: that is done once\n", o.ID, o.Sent.At.Format(time.RFC3339), o.Sent.Number, o.Sent.Partition)
	default:
		fmt.Fprintf(r.stdout, "%s: sent again, as number %d of partition %d, in message %d of %s\n", o.ID, o.Sent.Number, o.Sent.Partition, o.Sent.Sequence, o.ID.Stream)
	}
}

// impossible says why an event cannot be sent again.
func impossible(o rejected.Outcome) string {
	if errors.Is(o.Err, rejected.ErrNotFound) {
		return fmt.Sprintf("%v: holdfast rejected list shows which there are", o.Err) // it begins with the id
	}
	return fmt.Sprintf("%s: cannot be sent again: %v", o.ID, o.Err)
}

func (r *retryReport) progress(done, total uint64) {
	if r.bar == nil {
		r.bar = progressbar.NewOptions64(int64(total),
			progressbar.OptionSetWriter(r.stderr),
			progressbar.OptionSetVisibility(isTerminal(r.stderr)),
			progressbar.OptionSetDescription("refused events"),
			progressbar.OptionShowCount(),
			progressbar.OptionClearOnFinish(),
		)
	}
	_ = r.bar.Set64(int64(done)) // it fails on a bar that is complete
}

// clear takes the bar away.
func (r *retryReport) clear() {
	if r.bar != nil {
		_ = r.bar.Clear()
		r.bar = nil
	}
}

// sum says what became of all of them.
func (r *retryReport) sum(s rejected.Summary) {
	if more := r.refused - maxImpossible; !r.each && more > 0 {
		fmt.Fprintf(r.stderr, "and %d more\n", more)
	}
	if s.Finished > 0 {
		fmt.Fprintf(r.stdout, "%s sent that an earlier command had left undone\n", count(int64(s.Finished), "event"))
	}
	if !r.each {
		fmt.Fprintf(r.stdout, "%s sent again, %d sent before, %d that cannot be sent, %d left out\n", count(int64(s.Sent), "event"), s.Before, s.Impossible, s.LeftOut)
	}
	if s.LeftOut > 0 {
		fmt.Fprintln(r.stdout, "left out: what was sent again and refused again, and what was refused for its batch's numbers; holdfast rejected retry --help says how to name them")
	}
	if s.Sent+s.Finished > 0 {
		fmt.Fprintf(r.stdout, "what is refused again is shown by: holdfast rejected list --producer %s\n", rejected.Producer)
	}
}
