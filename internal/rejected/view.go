package rejected

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// View is a rejection as it is shown to people and scripts.
type View struct {
	ID        string    `json:"id"`
	RefusedAt time.Time `json:"refused_at"` // when the rejection was stored
	Reason    string    `json:"reason"`
	Detail    string    `json:"detail"`
	Producer  string    `json:"producer,omitempty"`

	// Event is the event in the open form, or what was sent if that is a JSON object which is no event. If it is
	// neither, Bytes has what was sent. Both are empty if it was too large to be kept; OmittedBytes is then its size.
	Event        json.RawMessage `json:"event,omitempty"`
	Bytes        []byte          `json:"bytes,omitempty"`
	OmittedBytes int             `json:"omitted_bytes,omitempty"`

	// Of is the holder or node; "" if it is not known.
	Of string `json:"-"`
	// Undecodable says why the event is shown as it came; "" if it could be decoded.
	Undecodable string `json:"undecodable,omitempty"`

	SentAgain *Sent `json:"sent_again,omitempty"` // nil: it was not

	// WhatToDo is advice, in a sentence.
	WhatToDo string `json:"what_to_do"`
}

// Sent says under which number an event was sent again.
type Sent struct {
	At        time.Time `json:"at"` // by the clock of the machine that did it
	Partition int       `json:"partition"`
	Number    uint64    `json:"number"`
	// Sequence is the message of the stream that has it; 0 if that is not known yet, and the next retry of anything
	// sees to it.
	Sequence uint64 `json:"sequence,omitempty"`
}

// Show returns one rejection, or ErrNotFound.
func (a *Archive) Show(ctx context.Context, id ID) (View, error) {
	r, err := a.find(ctx, id)
	if err != nil {
		return View{}, err
	}
	books, err := a.currentBooks(ctx)
	if err != nil {
		return View{}, err
	}
	return view(r, books.sent(r)), nil
}

func view(r Rejection, sent *Sent) View {
	v := View{
		ID: r.ID().String(), RefusedAt: r.At, Reason: r.Reason, Detail: r.Detail, Producer: r.Producer,
		OmittedBytes: r.Omitted, SentAgain: sent, WhatToDo: whatToDo(r, sent),
	}
	if r.Omitted > 0 {
		return v
	}
	e, err := decode(r.Stream, r.Event)
	if err == nil {
		v.Of = e.id()
		var ok bool
		if v.Event, ok = e.open(); ok {
			return v
		}
		err = errors.New("it has text that is not UTF-8")
	}
	v.Undecodable, v.Event = err.Error(), nil
	if trimmed := bytes.TrimSpace(r.Event); bytes.HasPrefix(trimmed, []byte("{")) && json.Valid(trimmed) {
		v.Event = trimmed
	} else {
		v.Bytes = r.Event
	}
	return v
}

// assess returns the event of a rejection if sending it again may help, and otherwise why it cannot be sent.
func assess(r Rejection) (event, error) {
	if r.Omitted > 0 {
		return event{}, fmt.Errorf("its %d bytes were too many to be kept, and are no event; they are message %d of the stream %s: publish the events that were meant", r.Omitted, r.Sequence, r.Stream)
	}
	e, err := decode(r.Stream, r.Event)
	if errors.Is(err, errBatch) {
		return event{}, fmt.Errorf("%w: have it sent as it was, message %d of %s; what is numbered counts once", err, r.Sequence, r.Stream)
	}
	if err == nil {
		err = e.validate()
	}
	if err != nil {
		return event{}, fmt.Errorf("it would be refused again (%w): publish a corrected event instead", err)
	}
	return e, nil
}

// advice says what to do about an event that can be sent again, by the reason why it was refused.
var advice = map[string]string{
	events.StartAhead.String():         "Once its start is no longer ahead, send it again",
	events.Misrouted.String():          "Send it again: it then goes to its own partition",
	events.NothingToRelease.String():   "If the hold has come since, send it again",
	events.UnknownHold.String():        "If the hold has come since, send it again",
	events.ReleaseExpired.String():     "If the hold has come since, send it again",
	events.TooManyHolds.String():       "When the holder has fewer unfinished holds, send it again",
	events.TooManyTokens.String():      copyOfCaps,
	events.SlotFull.String():           copyOfCaps,
	events.TooManySeries.String():      copyOfCaps,
	events.StaleEpoch.String():         copies,
	events.TooManyGaps.String():        copies,
	events.TooManyProducers.String():   copies,
	events.StaleRevision.String():      corrected,
	events.AlreadyEnded.String():       corrected,
	events.ReleaseBeforeStart.String(): corrected,
	events.BalanceOutOfOrder.String():  corrected,
}

const (
	corrected  = "What was folded before it contradicts it. Publish a corrected event; or, if it should hold by now, send it again"
	copyOfCaps = "The policy's cap was reached. When there is room, send it again"
	copies     = "Another copy of it may have been accepted, or refused too. If the holder or node does not have it, send it again"
)

func whatToDo(r Rejection, sent *Sent) string {
	retry := "holdfast rejected retry " + r.ID().String()
	if sent != nil && sent.Sequence == 0 {
		return "It has its number, and is not known to be stored: " + retry
	}
	if sent != nil {
		return "Nothing: it was sent again, which is done once. If it was refused again, that is another rejection, of the producer " + Producer
	}
	if _, err := assess(r); err != nil {
		return "It cannot be sent again: " + err.Error()
	}
	say, ok := advice[r.Reason]
	if !ok {
		say = "If it should be accepted by now, send it again"
	}
	return say + ": " + retry
}

// unsure tells whether events that were refused for a reason may have been accepted as well, or refused several times. Those
// are the reasons that lie in a batch's numbers: of a batch that came twice, one copy may have been accepted, and each that was
// refused is a rejection of its own.
func unsure(reason string) bool {
	switch reason {
	case events.StaleEpoch.String(), events.TooManyGaps.String(), events.TooManyProducers.String():
		return true
	}
	return false
}

// explain adds what to do about a stream or bucket that is not there.
func explain(err error) error {
	if errors.Is(err, jetstream.ErrNoStream) {
		return fmt.Errorf("%w: start an aggregator of this version, which makes the streams and buckets", err)
	}
	return err
}
