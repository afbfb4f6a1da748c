package jetstream

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Extent is what any stream holds, one of ours or not, as its leader knows it.
type Extent struct {
	// Created is when the stream was made. Together with its name it is the
	// stream's identity: one that was deleted and made again has another.
	Created time.Time

	FirstSequence uint64 // the oldest message's; LastSequence+1 if all are gone, at most 1 if there never was one
	LastSequence  uint64 // the newest message's, 0 if there never was one

	// PerSubject is how many messages of a subject the stream keeps; 0 means that
	// it does not limit them. A stream that does sheds messages from its middle.
	PerSubject int64

	// Origins are the streams of its own account that it mirrors or takes
	// messages from.
	Origins []string
}

// StreamExtent asks the leader of any stream what it holds. It returns
// ErrNoStream if there is none of that name.
func (c *Client) StreamExtent(ctx context.Context, stream string) (Extent, error) {
	if err := CheckStreamName(stream); err != nil {
		return Extent{}, err
	}
	info, err := c.streamInfo(ctx, stream, "")
	if err != nil {
		return Extent{}, fmt.Errorf("state of stream %s: %w", stream, err)
	}
	e := Extent{
		Created: info.Created, FirstSequence: info.State.FirstSeq, LastSequence: info.State.LastSeq,
		PerSubject: max(info.Config.MaxMsgsPerSubject, 0),
	}
	sources := info.Config.Sources
	if info.Config.Mirror != nil {
		sources = append(sources, info.Config.Mirror)
	}
	for _, s := range sources {
		if s.Domain == "" && s.External == nil {
			e.Origins = append(e.Origins, s.Name)
		}
	}
	return e, nil
}

// LastMessage returns the last message of a stream whose subject matches a
// filter, from the leader; "" matches all. It returns ErrSequenceNotFound if
// there is none.
func (c *Client) LastMessage(ctx context.Context, stream, filter string) (Message, error) {
	if filter == "" {
		filter = ">"
	}
	m, err := c.message(ctx, stream, messageRequest{LastBySubject: filter})
	if err != nil {
		return Message{}, fmt.Errorf("read the last message of stream %s in %s: %w", stream, filter, err)
	}
	return m, nil
}

// ReadFiltered reads the messages of a stream whose subjects match a filter, ""
// for all, from fromSequence (≥ 1) on, otherwise like ReadPartition. If the
// stream limits the messages of a subject, ErrTrimmed does not occur: it sheds
// its oldest by design.
func (c *Client) ReadFiltered(ctx context.Context, stream, filter string, fromSequence uint64) (*Reader, error) {
	return c.read(ctx, stream, filter, fromSequence)
}

// CheckStreamName refuses what no stream can be called, before it becomes part
// of a subject.
func CheckStreamName(name string) error {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r == 0x7f || strings.ContainsRune(`.*>/\`, r)
	}) {
		return fmt.Errorf(`%q is not the name of a stream: it is empty, or has a blank or one of . * > / \`, name)
	}
	return nil
}

// CheckFilter refuses what is not a subject, with or without wildcards.
func CheckFilter(subject string) error {
	tokens := strings.Split(subject, ".")
	for i, token := range tokens {
		switch {
		case token == "":
			return fmt.Errorf("%q is not a subject: it has an empty part between its dots", subject)
		case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r == 0x7f }):
			return fmt.Errorf("%q is not a subject: it has a blank", subject)
		case token == ">" && i < len(tokens)-1:
			return fmt.Errorf("%q is not a subject: > stands at the end alone", subject)
		}
	}
	return nil
}
