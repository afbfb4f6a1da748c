package jetstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Headers of a message in the stream REJECTED. Its subject is
// rejected.<stream>.<sequence>.<index>, its body the event's bytes.
const (
	reasonHeader   = "Holdfast-Reason"
	detailHeader   = "Holdfast-Detail"
	producerHeader = "Holdfast-Producer"
	omittedHeader  = "Holdfast-Omitted" // the event's size, if it did not fit
)

const (
	// A rejection's headers, names included, fit into this many bytes.
	rejectionHeaders = 4096
	// One of its header's values is cut to this many.
	rejectionText = 1024

	// rejectMessages and rejectBytes bound one batch of rejections.
	rejectMessages = 250
	rejectBytes    = 8 << 20
)

// MaxRejected is the size, in bytes, of the largest event that a rejection keeps.
const MaxRejected = MaxMessage - rejectionHeaders

// ErrForeignRejection says that another event's rejection stands where one is to
// be stored: the stream that it is of was deleted and made again, so its
// sequences began anew, and REJECTED still has what was refused of the old one.
var ErrForeignRejection = errors.New("another event's rejection stands in its place")

// Rejection is one event that the fold refused. Stream, Sequence and Index
// identify it: it is the event at Index, from 0, in that message of that
// stream.
type Rejection struct {
	Stream   string
	Sequence uint64
	Index    int

	Reason   string // from a bounded set, to be counted by
	Detail   string // for a person
	Producer string // empty if it gave no name

	// Event is the event as it came. It is not stored if it exceeds MaxMessage
	// less 4 KiB; Omitted is then its size, and it is to be found in Stream at
	// Sequence.
	Event   []byte
	Omitted int
}

// Subject returns the subject of the rejection.
func (r Rejection) Subject() string {
	return rejectedPrefix + "." + r.Stream + "." + strconv.FormatUint(r.Sequence, 10) + "." + strconv.Itoa(r.Index)
}

// Reject stores rejections in the stream REJECTED, each once: what is there
// already is left as it is, and counts as stored. So after any error but
// ErrForeignRejection, also ErrUnknownOutcome, it is right to call Reject with
// the same rejections again, and several callers may do so at once.
//
// Reason, Detail and Producer lose what a header cannot hold: control
// characters become blanks, and 1,024 bytes are kept.
func (c *Client) Reject(ctx context.Context, rejections []Rejection) error {
	for len(rejections) > 0 {
		n, size := 0, 0
		for n < len(rejections) && n < rejectMessages && (n == 0 || size+len(rejections[n].Event) <= rejectBytes) {
			size += len(rejections[n].Event)
			n++
		}
		if err := c.rejectBatch(ctx, rejections[:n]); err != nil {
			return fmt.Errorf("reject %d events from %s on: %w", n, rejections[0].Subject(), err)
		}
		rejections = rejections[n:]
	}
	return nil
}

// rejectBatch stores rejections all at once if they are all new, and one by one
// if some are there already, as in a retry.
func (c *Client) rejectBatch(ctx context.Context, rejections []Rejection) error {
	messages := make([]*nats.Msg, len(rejections))
	for i, r := range rejections {
		messages[i] = r.message()
	}
	_, err := c.publishBatch(ctx, messages)
	if !errors.Is(err, ErrConflict) {
		return c.leaderless(ctx, Rejected, err)
	}
	for _, r := range rejections {
		_, err := c.publish(ctx, r.message())
		if errors.Is(err, ErrConflict) {
			err = c.confirmStored(ctx, r)
		}
		if err != nil {
			return c.leaderless(ctx, Rejected, err)
		}
	}
	return nil
}

// confirmStored looks whether what stands in the place of a rejection is that
// rejection, after a conflict said that something does. If nothing is there,
// the conflict was with another's write that is still under way, and may fail.
//
// Detail is not compared: another version of the program may word it otherwise.
func (c *Client) confirmStored(ctx context.Context, r Rejection) error {
	m, err := c.RejectionMessage(ctx, r.Subject())
	if errors.Is(err, ErrSequenceNotFound) {
		return fmt.Errorf("%w: another write of %s is under way", ErrNotStored, r.Subject())
	}
	if err != nil {
		return fmt.Errorf("%w: cannot see what stands there: %w", ErrNotStored, err)
	}
	want := r.message()
	same := bytes.Equal(m.Data, want.Data)
	for _, name := range []string{reasonHeader, producerHeader, omittedHeader} {
		same = same && m.Header.Get(name) == want.Header.Get(name)
	}
	if !same {
		return fmt.Errorf("%w: %s was refused at %s as another event or for another reason, before the stream %s was made again or by another version of this program",
			ErrForeignRejection, r.Subject(), m.Time.Format(time.RFC3339), r.Stream)
	}
	return nil
}

// RejectionMessage returns the message of a rejection by its subject (see
// [Rejection.Subject]), from the leader, or ErrSequenceNotFound if there is none.
func (c *Client) RejectionMessage(ctx context.Context, subject string) (Message, error) {
	m, err := c.message(ctx, Rejected, messageRequest{LastBySubject: subject})
	if err != nil {
		return Message{}, fmt.Errorf("read %s: %w", subject, err)
	}
	return m, nil
}

// RejectedSequences returns the sequences of the first and the last message of
// the stream REJECTED, as its leader knows them; first > last if it has none.
func (c *Client) RejectedSequences(ctx context.Context) (first, last uint64, err error) {
	info, err := c.streamInfo(ctx, Rejected, "")
	if err != nil {
		return 0, 0, fmt.Errorf("state of stream %s: %w", Rejected, err)
	}
	return max(info.State.FirstSeq, 1), info.State.LastSeq, nil
}

func (r Rejection) message() *nats.Msg {
	m := nats.NewMsg(r.Subject())
	expect(m, 0)
	for name, value := range map[string]string{reasonHeader: r.Reason, detailHeader: r.Detail, producerHeader: r.Producer} {
		if value = headerText(value); value != "" {
			m.Header.Set(name, value)
		}
	}
	if len(r.Event) > MaxRejected {
		m.Header.Set(omittedHeader, strconv.Itoa(len(r.Event)))
	} else {
		m.Data = r.Event
	}
	return m
}

// headerText makes a text fit for a header's value.
func headerText(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) > rejectionText {
		s = s[:rejectionText]
	}
	return strings.TrimSpace(strings.ToValidUTF8(s, ""))
}

// ParseRejection reads a message of the stream REJECTED, as ReadStream delivers
// it. The event is the message's data, not a copy.
func ParseRejection(m Message) (Rejection, error) {
	r := Rejection{
		Reason:   m.Header.Get(reasonHeader),
		Detail:   m.Header.Get(detailHeader),
		Producer: m.Header.Get(producerHeader),
		Event:    m.Data,
	}
	tokens := strings.Split(m.Subject, ".")
	if len(tokens) != 4 || tokens[0] != rejectedPrefix {
		return Rejection{}, fmt.Errorf("rejection %d: subject %q is not %s.<stream>.<sequence>.<index>", m.Sequence, m.Subject, rejectedPrefix)
	}
	r.Stream = tokens[1]
	var errSequence, errIndex, errOmitted error
	r.Sequence, errSequence = strconv.ParseUint(tokens[2], 10, 64)
	r.Index, errIndex = strconv.Atoi(tokens[3])
	if omitted := m.Header.Get(omittedHeader); omitted != "" {
		r.Omitted, errOmitted = strconv.Atoi(omitted)
	}
	if err := errors.Join(errSequence, errIndex, errOmitted); err != nil {
		return Rejection{}, fmt.Errorf("rejection %d: subject %q: %w", m.Sequence, m.Subject, err)
	}
	return r, nil
}
