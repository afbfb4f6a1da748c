// Package check is the independent checker of Holdfast's state: an auditor that shares no code with what it audits.
//
// It reads the streams HOLDS, POH, REJECTED and CHECKPOINTS and the buckets HOLDS_STATE and POH_STATE by plain nats.go, decodes what is in them
// with general libraries, and folds every event again, in the most obvious way: a holder is a list of holds, a score is the sum
// over that list, a node is a list of latencies for each thing that it did, the numbers of a producer are a set. All arithmetic
// is math/big. What events mean is taken from docs/producers.md, what the state looks like from docs/state-format.md.
//
//	stream HOLDS, POH ──► decode ──► naive fold ──┬──► equal? ◄── slots and checkpoints of the buckets
//	                                             ├──► equal? ◄── stream REJECTED
//	                                             ├──► equal? ◄── what was signed, in the stream CHECKPOINTS
//	                                             ├──► equal? ◄── what the exporter answers
//	                                             └──► equal? ◄── what the producers know that they sent ([Ledger])
//
// Every difference is a disagreement, told in words. Nothing is repaired, and nothing is forgiven.
package check

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"math/big"
	"runtime"
	"sync"
	"time"
)

// Partitions is the number of partitions of a log, and slots that of the slots of a partition.
const (
	Partitions = 16
	slots      = 256
)

// Options say what is to be checked.
type Options struct {
	Source   Source
	Exporter string  // base URL of an exporter to be asked; "" = none
	Ledger   *Ledger // what the producers know; nil = nothing is known
	// SigningKey is the key by which checkpoints are signed, also when a worker stops; nil = nothing is signed.
	SigningKey ed25519.PublicKey
	// Logf is told how the check goes on; nil discards.
	Logf func(format string, args ...any)
}

// Report is what a check has found.
type Report struct {
	Messages   uint64 // in the logs
	Events     uint64 // in those messages, each time that they came
	Duplicates uint64 // of these: numbered events that came again
	Rejections uint64 // in the stream REJECTED
	Signed     uint64 // signed checkpoints
	Holders    int
	Nodes      int
	Score      string // of all holders together, at the ledger's instant, in weight·seconds
	// Wrong is how many disagreements there are, and Disagreements the first of them, in words.
	Wrong         int
	Disagreements []string
	// Damaged is how many of them are not explained by something that was not folded yet: those of holders and nodes in partitions
	// whose checkpoints cover everything, and slots that are not as their checkpoint lists them.
	Damaged int
}

// maxTold is how many disagreements a report tells in words.
const maxTold = 50

// Run checks everything once. The logs must have no producers any more, and everything in them must be folded. An error
// says that the check could not be made to its end, and the report what was found until then; disagreements are no error.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	c := &checker{Options: o, report: &Report{}, refused: map[string]*rejection{}, now: time.Now().UnixMilli()}
	c.instants = []int64{c.now, c.now + 3_600_000, c.now + 400*24*3_600_000, lastInstant}
	if o.Ledger != nil {
		c.instants[2] = o.Ledger.At
	}
	for _, log := range logs {
		if err := c.checkLog(ctx, log); err != nil {
			return c.report, fmt.Errorf("check %s: %w", log.stream, err)
		}
	}
	if err := c.checkRejected(ctx); err != nil {
		return c.report, fmt.Errorf("check REJECTED: %w", err)
	}
	c.checkLedger()
	if o.Exporter != "" {
		if err := c.checkExporter(ctx); err != nil {
			return c.report, fmt.Errorf("check the exporter: %w", err)
		}
	}
	return c.report, nil
}

// checker is one check.
type checker struct {
	Options
	now      int64
	instants []int64 // at which scores are compared; the third is the ledger's

	mu      sync.Mutex
	report  *Report               // guarded by mu
	refused map[string]*rejection // by subject, what must be in REJECTED; guarded by mu
	totals  totals                // guarded by mu
}

// log is one of the two logs.
type log struct {
	number         uint64 // in an envelope
	stream, bucket string
	prefix         string // of its subjects
}

var logs = []log{
	{1, "HOLDS", "KV_HOLDS_STATE", "hold"},
	{2, "POH", "KV_POH_STATE", "poh"},
}

// disagree takes down one disagreement.
func (c *checker) disagree(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Wrong++
	if len(c.report.Disagreements) < maxTold {
		c.report.Disagreements = append(c.report.Disagreements, fmt.Sprintf(format, args...))
	}
}

// damage takes down a disagreement that time would not have mended.
func (c *checker) damage(format string, args ...any) {
	c.disagree(format, args...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Damaged++
}

// damaged takes down a disagreement about a holder or node of a partition.
func (c *checker) damaged(p *partition, format string, args ...any) {
	if p.covered {
		c.damage(format, args...)
	} else {
		c.disagree(format, args...)
	}
}

// checkLog folds every partition of a log again and compares it with the bucket. Partition after partition, so that no more than a
// few of them are in memory at once.
func (c *checker) checkLog(ctx context.Context, log log) error {
	began := time.Now()
	stream, err := c.Source.Stream(ctx, log.stream)
	if err != nil {
		return err
	}
	policy, err := readPolicy(stream.Metadata)
	if err != nil {
		return err
	}
	bucket, err := c.Source.Stream(ctx, log.bucket)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var workers sync.WaitGroup
	var mu sync.Mutex
	var messages, keys, events uint64
	todo := make(chan int, Partitions)
	for i := range Partitions {
		todo <- i
	}
	close(todo)
	for range min(4, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			for number := range todo {
				p := newPartition(log, number, policy)
				err := c.Source.Messages(ctx, log.stream, fmt.Sprintf("%s.p.%d", log.prefix, number), func(m *Message) error {
					p.message(m)
					return nil
				})
				stored := 0
				if err == nil {
					stored, err = c.compare(ctx, p, stream)
				}
				if err != nil {
					cancel(fmt.Errorf("partition %d: %w", number, err))
					return
				}
				c.collect(p)
				mu.Lock()
				messages, keys, events = messages+p.messages, keys+uint64(stored), events+p.events
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if messages != stream.Messages {
		c.disagree("%s has %d messages, and its partitions %d", log.stream, stream.Messages, messages)
	}
	if keys != bucket.Messages {
		c.disagree("%s has %d keys, of which %d are slots and checkpoints that belong there", log.bucket, bucket.Messages, keys)
	}
	c.Logf("%s: %d events in %d messages folded again in %.1f s", log.stream, events, messages, time.Since(began).Seconds())
	return nil
}

// collect adds what a partition comes to.
func (c *checker) collect(p *partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Messages += p.messages
	c.report.Events += p.events
	c.report.Duplicates += p.duplicates
	for subject, r := range p.rejected {
		c.refused[subject] = r
	}
	c.totals.add(p, c.instants)
}

// decimal writes n·10^-digits without trailing zeros.
func decimal(n *big.Int, digits int64) string {
	scale := new(big.Int).Exp(big.NewInt(10), big.NewInt(digits), nil)
	r := new(big.Rat).SetFrac(n, scale)
	if r.IsInt() {
		return r.Num().String()
	}
	s := r.FloatString(int(digits))
	for s[len(s)-1] == '0' {
		s = s[:len(s)-1]
	}
	return s
}
