package events

import (
	"fmt"
	"strconv"
)

// Reason says, as one of a bounded set, why an event was refused. Its text is a metric label and part of
// what producers may match on: a reason is never renamed.
type Reason uint8

// The reasons that lie in the event itself.
const (
	Malformed      Reason = iota + 1 // the bytes are not what the format says
	UnknownVersion                   // a version of the format that this program does not know
	UnknownKind                      // a kind that does not exist, or is not for this endpoint or subject
	UnknownField                     // a field that the kind does not have, or one that is there twice
	MissingField                     // a field that the kind needs
	InvalidID                        // an id that is empty, over-long, or not NFC-normal UTF-8
	InvalidTime                      // an instant that is not one, or outside of the years 1970 to 9999
	InvalidWeight                    // a weight that is not a decimal of the permitted range
	InvalidValue                     // any other field outside of its range
	EndBeforeStart                   // an end before the start
	Misrouted                        // an event in another partition's subject
)

// The reasons that lie in what was folded before.
const (
	StartAhead         Reason = iota + 32 // a start over MaxAhead ahead of the stream's clock
	StaleRevision                         // another statement of a known hold without a higher rev
	UnknownHold                           // a rev above 0 of a hold that is not known
	NothingToRelease                      // a release that no open hold matches
	AlreadyEnded                          // a release of a hold that has ended otherwise
	ReleaseBeforeStart                    // a release that would end its hold before its start
	ReleaseExpired                        // a release that waited longer for its hold than ids are known
	BalanceOutOfOrder                     // a balance from before the last one of the token
	TooManyHolds                          // over the policy's unfinished and known holds a holder
	TooManyTokens                         // over the policy's balances a holder
	SlotFull                              // over the policy's bytes a slot
	TooManyProducers                      // over the policy's producers a partition
	TooManyGaps                           // over MaxRanges ranges above a producer's floor
	StaleEpoch                            // a batch of a producer whose name has been claimed anew
	TooManySeries                         // over the policy's PoH series a slot
)

var reasonNames = map[Reason]string{
	Malformed: "malformed", UnknownVersion: "unknown_version", UnknownKind: "unknown_kind", UnknownField: "unknown_field",
	MissingField: "missing_field", InvalidID: "invalid_id", InvalidTime: "invalid_time", InvalidWeight: "invalid_weight",
	InvalidValue: "invalid_value", EndBeforeStart: "end_before_start", Misrouted: "misrouted",
	StartAhead: "start_ahead", StaleRevision: "stale_revision", UnknownHold: "unknown_hold", NothingToRelease: "nothing_to_release",
	AlreadyEnded: "already_ended", ReleaseBeforeStart: "release_before_start", ReleaseExpired: "release_expired",
	BalanceOutOfOrder: "balance_out_of_order", TooManyHolds: "too_many_holds", TooManyTokens: "too_many_tokens",
	SlotFull: "slot_full", TooManyProducers: "too_many_producers", TooManyGaps: "too_many_gaps", StaleEpoch: "stale_epoch",
	TooManySeries: "too_many_series",
}

// String returns the reason's name, such as "end_before_start".
func (r Reason) String() string {
	if name, ok := reasonNames[r]; ok {
		return name
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// Valid tells whether r is one of the reasons.
func (r Reason) Valid() bool {
	_, ok := reasonNames[r]
	return ok
}

// Refusal is the error of an event that is not accepted: why, which field, and what about it.
type Refusal struct {
	Reason Reason
	Field  string // the field's outside name; "" when it is about the whole
	Detail string // a clause for people; it may quote what was sent, shortened
}

// Error returns, for example, "invalid_weight: weight: 10 fraction digits, at most 9 are kept exactly".
func (r *Refusal) Error() string {
	if r.Field == "" {
		return r.Reason.String() + ": " + r.Detail
	}
	return r.Reason.String() + ": " + r.Field + ": " + r.Detail
}

// Refuse makes a refusal; the detail is formatted as by fmt.Sprintf.
func Refuse(reason Reason, field, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Field: field, Detail: fmt.Sprintf(format, args...)}
}

// refuse is Refuse as an error, so that a nil is never hidden in an interface.
func refuse(reason Reason, field, format string, args ...any) error {
	return Refuse(reason, field, format, args...)
}

// quote shows a text from outside in a message: quoted, on one line, cut to 64 bytes.
func quote(s string) string { return strconv.QuoteToASCII(cut(s)) + mark(s) }

// shorten is a field's name from outside as a refusal shows it: on one line, cut to 64 bytes.
func shorten(s string) string {
	quoted := strconv.QuoteToASCII(cut(s))
	return quoted[1:len(quoted)-1] + mark(s)
}

const maxShown = 64

func cut(s string) string { return s[:min(len(s), maxShown)] }

func mark(s string) string {
	if len(s) > maxShown {
		return "…"
	}
	return ""
}
