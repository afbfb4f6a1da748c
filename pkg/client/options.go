package client

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/trace"

	"github.com/city-chain/holdfast/jetstream"
)

// Options configure a [Client].
type Options struct {
	// Connection is a connection of the caller's, who closes it when the client is closed. Nil means that the client makes its own, by NATS.
	Connection *nats.Conn
	// NATS says how to reach the servers and as whom; the zero value is nats://127.0.0.1:4222. Its Wait is not used: the client always goes on trying. Its
	// Logger, if nil, is that of the client. It must be zero if there is a Connection.
	NATS jetstream.Options

	// Name is the producer's name with [Folder], and its prefix with [Bucket]: an id in the sense of pkg/events that does not begin with
	// [events.ReservedProducers]. It is required.
	Name string
	// Keep is where the client keeps what must survive its restart: Folder(path) or Bucket(). The zero value is Bucket().
	Keep Keep
	// SpoolBytes bounds the spool, in bytes on the disk. 0 means DefaultSpoolBytes, negative means that there is none. It must hold 16 envelopes of
	// MaxBatchBytes. With Bucket there is no spool, and it must not be positive.
	SpoolBytes int64

	// MaxPending is how many events of a log may be in memory. 0 means DefaultMaxPending.
	MaxPending int
	// Overflow says what a send does when there is no room, in memory and in the spool: [Block], the zero value, or [Refuse].
	Overflow Overflow
	// MaxBatch bounds how many events an envelope has, 1 to [events.MaxBatch]; 0 means events.MaxBatch.
	MaxBatch int
	// MaxBatchBytes bounds an envelope, 4 KiB to 1 KiB below [jetstream.MaxMessage]; 0 means DefaultMaxBatchBytes.
	MaxBatchBytes int
	// Linger is how long an event waits for others of its partition before an envelope is sent that is not full. 0 means not at all;
	// envelopes then grow with the load alone.
	Linger time.Duration

	// Logger is told what an operator should know. Nil discards.
	Logger *slog.Logger
	// Tracer makes a span for each envelope that has events sent under a sampled span, and has its context travel in the message's header
	// traceparent. Nil means no traces.
	Tracer trace.Tracer
	// Observe, if set, is called after every attempt to publish an envelope, by several goroutines at once. It must not block.
	Observe func(Attempt)

	claimTTL time.Duration // 0 means claimTTL
}

// Keep is where a client keeps what must survive its restart; see [Folder] and [Bucket].
type Keep struct{ folder string }

// Folder keeps numbers and spool in a folder, which is made if it is missing and belongs to one process and one name at a time. The name is
// [Options].Name exactly. The folder must be on a local disk, whose fsync counts, and must not be copied.
func Folder(path string) Keep { return Keep{folder: path} }

// Bucket keeps numbers in the bucket [jetstream.Producers], for processes without a disk of their own. The name is the first free one of Name-1, Name-2, …
// There is no spool.
func Bucket() Keep { return Keep{} }

func (k Keep) inFolder() bool { return k.folder != "" }

func (o *Options) complete() error {
	if o.Connection != nil && o.NATS != (jetstream.Options{}) {
		return errors.New("both Connection and NATS are given: leave one out")
	}
	if o.Name == "" {
		return errors.New("the option Name is empty: give the producer a name that no other has")
	}
	name := o.Name
	if !o.Keep.inFolder() {
		name += "-1"
	}
	if err := checkProducer(name); err != nil {
		return fmt.Errorf("the option Name: %w", err)
	}
	p := o.publisher()
	if err := p.complete(); err != nil {
		return err
	}
	o.MaxPending, o.MaxBatch, o.MaxBatchBytes, o.Logger, o.Observe = p.MaxPending, p.MaxBatch, p.MaxBatchBytes, p.Logger, p.Observe
	if !o.Keep.inFolder() {
		if o.SpoolBytes > 0 {
			return errors.New("the option SpoolBytes is given, and there is no spool without a folder: keep in Folder(path), or leave it out")
		}
		o.SpoolBytes = -1
	}
	if o.SpoolBytes == 0 {
		o.SpoolBytes = DefaultSpoolBytes
	}
	if least := int64(spoolSegments) * int64(o.MaxBatchBytes); o.SpoolBytes > 0 && o.SpoolBytes < least {
		return fmt.Errorf("the option SpoolBytes is %d: it must be at least %d, 16 envelopes of MaxBatchBytes, or negative for no spool", o.SpoolBytes, least)
	}
	if o.claimTTL == 0 {
		o.claimTTL = claimTTL
	}
	if o.NATS.Logger == nil {
		o.NATS.Logger = o.Logger
	}
	if o.NATS.Name == "" {
		o.NATS.Name = o.Name
	}
	return nil
}

// publisher is what of the options concerns the publishers.
func (o *Options) publisher() PublisherOptions {
	return PublisherOptions{
		MaxPending: o.MaxPending, Overflow: o.Overflow, MaxBatch: o.MaxBatch, MaxBatchBytes: o.MaxBatchBytes, Linger: o.Linger,
		Logger: o.Logger, Tracer: o.Tracer, Observe: o.Observe,
	}
}
