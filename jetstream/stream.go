package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// apiPrefix is where JetStream takes requests. A stream's requests here are
// answered by its leader alone. The client library would read messages by
// "direct get", which any replica may answer, also one that lags behind.
const apiPrefix = "$JS.API."

// State is what a log's stream holds, as its leader knows it.
type State struct {
	// Created is when the stream was made. Together with its name it is the
	// stream's identity: one that was deleted and made again has another.
	Created time.Time

	FirstSequence uint64 // the oldest message's; LastSequence+1 if all are gone, at most 1 if there never was one
	LastSequence  uint64 // the newest message's, 0 if there never was one
	LastTime      time.Time
	Messages      uint64
	Bytes         uint64 // as stored, with headers and the store's own

	// Partitions counts the messages of each partition.
	Partitions [Partitions]uint64
}

// StreamState asks the leader of the log's stream what it holds.
func (c *Client) StreamState(ctx context.Context, log Log) (State, error) {
	info, err := c.streamInfo(ctx, log.Stream, log.Prefix+".p.*")
	if err != nil {
		return State{}, fmt.Errorf("state of stream %s: %w", log.Stream, err)
	}
	state := State{
		Created:       info.Created,
		FirstSequence: info.State.FirstSeq,
		LastSequence:  info.State.LastSeq,
		LastTime:      info.State.LastTime,
		Messages:      info.State.Msgs,
		Bytes:         info.State.Bytes,
	}
	for p := range state.Partitions {
		state.Partitions[p] = info.State.Subjects[log.PartitionSubject(p)]
	}
	return state, nil
}

// Message returns one message of a stream by its sequence, from the leader.
// Its Pending is always 0. It returns ErrSequenceNotFound if there is none.
func (c *Client) Message(ctx context.Context, stream string, sequence uint64) (Message, error) {
	m, err := c.message(ctx, stream, messageRequest{Sequence: sequence})
	if err != nil {
		return Message{}, fmt.Errorf("read message %d of stream %s: %w", sequence, stream, err)
	}
	return m, nil
}

// EmptyThrough returns the highest sequence L ≥ after for which the leader
// vouches that the partition has no message with after < sequence ≤ L. L is
// the sequence before the partition's next message, or, if there is none, the
// stream's last sequence at the time of the call.
//
// So a worker that has folded its partition up to "after" may set its
// checkpoint to L without having seen another message. It returns ErrTrimmed if
// the stream begins behind after+1, and ErrStreamChanged if it ends before after.
func (c *Client) EmptyThrough(ctx context.Context, log Log, partition int, after uint64) (uint64, error) {
	through, err := c.emptyThrough(ctx, log.Stream, log.PartitionSubject(partition), after)
	if err != nil {
		return 0, fmt.Errorf("look ahead in %s: %w", log.PartitionSubject(partition), err)
	}
	return through, nil
}

// StreamEmptyThrough is EmptyThrough for all of a stream: it returns the highest sequence L ≥ after for which the leader
// vouches that the stream has no message with after < sequence ≤ L.
func (c *Client) StreamEmptyThrough(ctx context.Context, stream string, after uint64) (uint64, error) {
	through, err := c.emptyThrough(ctx, stream, AllKeys, after)
	if err != nil {
		return 0, fmt.Errorf("look ahead in stream %s: %w", stream, err)
	}
	return through, nil
}

// emptyThrough asks for the stream's end first and for the next message then:
// whatever came in between can only lower the answer. That there is no next
// message counts only if the same leader was asked all the time: another one
// may have been cut off, or new and not yet through with what the first one
// has, and then there is one that it does not know.
func (c *Client) emptyThrough(ctx context.Context, stream, filter string, after uint64) (uint64, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	connections := c.nc.Stats().Reconnects
	before, err := c.streamInfo(ctx, stream, "")
	if err != nil {
		return 0, err
	}
	switch {
	case before.State.FirstSeq > after+1:
		return 0, fmt.Errorf("%w: the stream begins at sequence %d", ErrTrimmed, before.State.FirstSeq)
	case before.State.LastSeq < after:
		return 0, fmt.Errorf("%w: the stream ends at sequence %d, before %d", ErrStreamChanged, before.State.LastSeq, after)
	}
	next, err := c.message(ctx, stream, messageRequest{Sequence: after + 1, NextBySubject: filter})
	switch {
	case err == nil:
		return next.Sequence - 1, nil
	case !errors.Is(err, ErrSequenceNotFound):
		return 0, err
	}
	now, err := c.streamInfo(ctx, stream, "")
	switch {
	case err != nil:
		return 0, err
	case now.leader() != before.leader() || c.nc.Stats().Reconnects != connections,
		!now.Created.Equal(before.Created) || now.State.LastSeq < before.State.LastSeq:
		return 0, errLeaderChanged
	}
	return before.State.LastSeq, nil
}

// errLeaderChanged says that answers do not fit together: they came from
// different leaders, or from one that has lost something in between. The next
// ones are likely to.
var errLeaderChanged = errors.New("the stream's leader changed")

// messageRequest asks for one message: by Sequence, the last by LastBySubject,
// or the next from Sequence on by NextBySubject.
type messageRequest struct {
	Sequence      uint64 `json:"seq,omitempty"`
	LastBySubject string `json:"last_by_subj,omitempty"`
	NextBySubject string `json:"next_by_subj,omitempty"`
}

func (c *Client) message(ctx context.Context, stream string, request messageRequest) (Message, error) {
	reply, err := ask[struct {
		failure
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}](ctx, c, "STREAM.MSG.GET."+stream, request)
	if e, ok := errors.AsType[*jetstream.APIError](err); ok && e.ErrorCode == codeNoMessage {
		return Message{}, ErrSequenceNotFound
	}
	if err != nil {
		return Message{}, err
	}
	if reply.Message == nil {
		return Message{}, errors.New("the answer has neither a message nor an error")
	}
	stored := reply.Message
	m := Message{Sequence: stored.Sequence, Time: stored.Time, Subject: stored.Subject, Data: stored.Data}
	if len(stored.Header) > 0 {
		header, err := nats.DecodeHeadersMsg(stored.Header)
		if err != nil {
			return Message{}, fmt.Errorf("decode headers: %w", err)
		}
		m.Header = header
	}
	return m, nil
}

// streamInfo is a stream's state and configuration. Total is the number of the
// subjects that were asked for; State.Subjects has no more than 100,000 of them.
type streamInfo struct {
	jetstream.StreamInfo
	Total int `json:"total"`
}

// leader names the server that answered; empty without a cluster.
func (i *streamInfo) leader() string {
	if i.Cluster == nil {
		return ""
	}
	return i.Cluster.Leader
}

// streamInfo asks a stream's leader for its state and configuration, with the
// number of messages of each subject that matches countSubjects, if any.
func (c *Client) streamInfo(ctx context.Context, stream, countSubjects string) (*streamInfo, error) {
	request := struct {
		SubjectsFilter string `json:"subjects_filter,omitempty"`
	}{countSubjects}
	reply, err := ask[struct {
		failure
		streamInfo
	}](ctx, c, "STREAM.INFO."+stream, request)
	if err != nil {
		return nil, err
	}
	return &reply.streamInfo, nil
}

// failure is the part of an answer that says why there is no other.
type failure struct {
	Error *jetstream.APIError `json:"error"`
}

func (f failure) reason() *jetstream.APIError { return f.Error }

// ask sends a request that may be repeated to the JetStream API and decodes the
// answer. It waits for a connection and for a leader, and asks again if the
// answer is lost, until the context ends.
func ask[Reply interface{ reason() *jetstream.APIError }](ctx context.Context, c *Client, subject string, request any) (Reply, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	var reply Reply
	body, err := json.Marshal(request)
	if err != nil {
		return reply, err
	}
	err = untilAnswered(ctx, func() error {
		if err := c.awaitConnection(ctx); err != nil {
			return err
		}
		m, err := c.askOnce(ctx, apiPrefix+subject, body)
		if err != nil {
			return readError(err)
		}
		reply = *new(Reply)
		if err := json.Unmarshal(m.Data, &reply); err != nil {
			return fmt.Errorf("decode the answer of %s: %w", apiPrefix+subject, err)
		}
		if e := reply.reason(); e != nil {
			return refused(e)
		}
		return nil
	})
	return reply, err
}

// askOnce sends a request over the connection that is up.
func (c *Client) askOnce(ctx context.Context, subject string, body []byte) (*nats.Msg, error) {
	ctx, cancel := c.forAnswer(ctx, readTimeout)
	defer cancel()
	m, err := c.nc.RequestWithContext(ctx, subject, body)
	return m, unanswered(ctx, err)
}

// leaderless tells from each other the two reasons for which no one takes a
// write: there is no stream (ErrNoStream), or it has no leader at the moment
// (ErrNotStored). In the second case it waits for the leader.
func (c *Client) leaderless(ctx context.Context, stream string, err error) error {
	if !errors.Is(err, ErrNoStream) {
		return err
	}
	if _, reason := c.streamInfo(ctx, stream, ""); errors.Is(reason, ErrNoStream) {
		return err
	}
	return fmt.Errorf("%w: stream %s had no leader", ErrNotStored, stream)
}
