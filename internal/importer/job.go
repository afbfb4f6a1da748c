package importer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
)

// job returns the import of a source under a name.
func (m *Importer) job(src source, name string, result *Result) *job {
	return &job{
		importer: m, src: src, producer: producerPrefix + name, result: result, settle: m.options.Follow,
		records: &recordKeeper{records: m.options.Records, key: events.EncodeID(producerPrefix + name), logger: m.options.Logger},
		refused: &refusedFile{path: src.refusedPath(name, m.options.StreamDir)},
		total:   src.total(m.options.Follow),
	}
}

// ended makes nothing of an error that is the end of an import that follows: that is how it ends.
func (m *Importer) ended(ctx context.Context, err error) error {
	if m.options.Follow && ctx.Err() != nil && err == context.Cause(ctx) {
		return nil
	}
	return err
}

// load reads the record.
func (j *job) load(ctx context.Context) (err error) {
	if j.record, err = j.records.load(ctx); err != nil {
		return err
	}
	j.result.Before = j.record.Totals
	j.refused.mark = j.record.RefusedFile
	return nil
}

// begin settles what the file is read as: what the record says, or what is asked for. They must not differ.
func (j *job) begin(r *reader) error {
	o, rec := &j.importer.options, &j.record
	asked := j.src.format(o.Format, r.peek())
	if rec.Format == "" {
		rec.Format, rec.Version = asked, asked.version()
	}
	if rec.Format == NATS || o.Format != "" && o.Format != rec.Format {
		return fmt.Errorf("%w: the import known by the name %q was begun as %s: go on with it as that, or give this one another name (--name)", ErrFormat, j.result.Name, rec.Format)
	}
	j.result.Format = rec.Format
	j.refused.header = rec.Format.header(r.peek())
	if rec.Format != Deltas {
		if len(o.IgnoreHolders) > 0 {
			return fmt.Errorf("%w: holders can be ignored in files of deltas alone, and this is %s", ErrFormat, rec.Format)
		}
		return nil
	}
	if j.src.regular && trimRefused(j.src.file) != j.src.file {
		return fmt.Errorf("%w: rows of deltas that were refused change balances that only the file has which they come from: mend them at the end of %s, and import that again", ErrFormat, trimRefused(j.src.file))
	}
	if rec.Deltas == nil {
		rec.Deltas = &deltasRecord{Ignored: o.IgnoreHolders}
	}
	if len(o.IgnoreHolders) > 0 && !slices.Equal(o.IgnoreHolders, rec.Deltas.Ignored) {
		return fmt.Errorf("%w: the import known by the name %q was begun with other holders to ignore, %q: go on with these, or with none, which means them; or import all anew under another name (--name)",
			ErrChanged, j.result.Name, rec.Deltas.Ignored)
	}
	r.accounts = newAccounts(rec.Deltas, o.MaxBalances)
	return nil
}

// run publishes what the source has, from the announced block on.
func (j *job) run(ctx context.Context, next nextBlock, announced *block) error {
	ctx, cancel := context.WithCancelCause(j.draining(ctx))
	defer cancel(nil)
	var err error
	if j.publisher, err = j.importer.options.Publish(j.producer, j.record.Next); err != nil {
		return err
	}
	stop := start(ctx, cancel, j.publisher)
	defer stop()
	err = j.blocks(ctx, next, announced)
	if j.result.Refused > 0 {
		j.result.RefusedFile = j.refused.path
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // why the publisher stopped, or the caller
	}
	return err
}

// draining returns ctx, or if the source is followed, a context that ends some time later: until then what is under way can
// be finished.
func (j *job) draining(ctx context.Context) context.Context {
	if !j.settle {
		return ctx
	}
	timeout := j.importer.options.DrainTimeout
	work, end := context.WithCancelCause(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		time.AfterFunc(timeout, func() {
			end(fmt.Errorf("%w: what was under way was not acknowledged within %v: the next run does it again", context.Cause(ctx), timeout))
		})
	})
	return work
}
