// Package client is what a producer of events embeds: it numbers, batches and publishes them, so that each event counts
// once however often it had to be sent.
//
//	publisher, err := client.NewPublisher[events.HoldEvent](c, client.PublisherOptions{Producer: "till-7", Epoch: 1, Next: saved})
//	go publisher.Run(ctx)
//	receipt, err := publisher.Send(ctx, list) // queued, in order
//	err = receipt.Wait(ctx)                   // stored
//
// A [Publisher] splits events by partition. Each partition has one envelope under way at a time; what is queued by the
// time it is acknowledged forms the next, so envelopes grow with the load and nothing waits for a timer.
//
// # Exactly once
//
// The events of a producer carry numbers, one sequence for each partition, without gaps. An envelope that was not
// acknowledged, for whatever reason, is sent again with the same events under the same numbers until it is, and the
// fold skips numbers that it has. For this to hold across restarts, a name and epoch must go on with the numbers that
// follow those used before ([Publisher.Next]). A process that cannot keep them claims a fresh epoch of a name at each start
// ([Claim]); its numbers then start at 1.
package client

import (
	"errors"

	"github.com/city-chain/holdfast/jetstream"
)

var (
	// ErrClosed is the error of a [Publisher.Send] that came after the publisher was told to stop. Nothing of the list was
	// taken, so it may be sent elsewhere.
	ErrClosed = errors.New("the publisher is closed")

	// ErrUnacknowledged is the error of events that a publisher had taken and gave up on when it stopped. Some may be
	// stored. They may be sent again under the same numbers, and only so without counting twice.
	ErrUnacknowledged = errors.New("given up before the stream acknowledged it: it may be stored or not")

	// ErrClaimLost says that a claimed name has expired or belongs to someone else.
	ErrClaimLost = errors.New("the claim of the producer's name is lost")
)

// Numbers has a number for each partition of a log.
type Numbers [jetstream.Partitions]uint64
