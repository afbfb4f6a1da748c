package rejected

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/city-chain/holdfast/jetstream"
)

// recordVersion is the version of a record that this program writes, and the only one that it reads.
const recordVersion = 1

// record is a batch as the bucket RETRIES has it, as JSON under the key of its first number.
type record struct {
	Version    int       `json:"version"`
	Attempt    string    `json:"attempt"` // made up for each: tells one's own from another's
	At         time.Time `json:"at"`
	Rejections []string  `json:"rejections"`         // <sequence>.<index>, in the order of their numbers
	Envelope   []byte    `json:"envelope,omitempty"` // until it is known to be stored
	Sequence   uint64    `json:"sequence,omitempty"` // where the stream has it, once that is known
}

// place is an event's place in its stream.
type place struct {
	sequence uint64
	index    int
}

func (p place) String() string {
	return strconv.FormatUint(p.sequence, 10) + "." + strconv.Itoa(p.index)
}

// book is the chain of batches of one partition of a log.
type book struct {
	stream    string
	created   time.Time // when the stream was made: with its name, its identity
	partition int
	batches   []batch // one behind the other, from number 1 on
	next      uint64  // the first number that is not given out
	numbers   map[place]uint64
}

// batch is a link of the chain.
type batch struct {
	key      string
	revision uint64 // of its record
	first    uint64
	record   // without the rejections once it is stored; they are in the book's numbers
}

// books are the books of all logs, by stream.
type books map[string]*[jetstream.Partitions]book

// prefix is how the keys of all books of a stream begin: another stream of that name, made at another time, has others.
func prefix(stream string, created time.Time) string {
	return stream + "." + strconv.FormatInt(created.UnixNano(), 10) + "."
}

// prefix is how the keys of the book's batches begin. What follows is a batch's first number.
func (b *book) prefix() string {
	return prefix(b.stream, b.created) + strconv.Itoa(b.partition) + "."
}

func (b *book) key(first uint64) string { return b.prefix() + strconv.FormatUint(first, 10) }

// created returns when the logs' streams were made.
func (a *Archive) created(ctx context.Context) (map[string]time.Time, error) {
	created := map[string]time.Time{}
	for stream, codec := range codecs {
		now, err := a.stream.StreamState(ctx, codec.log)
		if err != nil {
			return nil, explain(err)
		}
		created[stream] = now.Created
	}
	return created, nil
}

// loadBooks reads all books of the streams that were made then.
func (a *Archive) loadBooks(ctx context.Context, created map[string]time.Time) (books, error) {
	all := books{}
	for stream := range codecs {
		entries, err := a.retries.Load(ctx, prefix(stream, created[stream])+"*.*")
		if err != nil {
			return nil, explain(err)
		}
		all[stream] = new([jetstream.Partitions]book)
		for i := range all[stream] {
			b := &all[stream][i]
			*b = book{stream: stream, created: created[stream], partition: i}
			var own []jetstream.Entry
			for _, e := range entries {
				if strings.HasPrefix(e.Key, b.prefix()) {
					own = append(own, e)
				}
			}
			if err := b.read(own); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// currentBooks reads the books of the streams as they are.
func (a *Archive) currentBooks(ctx context.Context) (books, error) {
	created, err := a.created(ctx)
	if err != nil {
		return nil, err
	}
	return a.loadBooks(ctx, created)
}

// sent returns how a rejection was sent again, nil if it was not, or is of a stream that is no more.
func (bs books) sent(r Rejection) *Sent {
	list := bs[r.Stream]
	if list == nil || r.At.Before(list[0].created) {
		return nil
	}
	for i := range list {
		if s := list[i].sent(place{r.Sequence, r.Index}); s != nil {
			return s
		}
	}
	return nil
}

// reload reads the book again.
func (b *book) reload(ctx context.Context, retries bucket) error {
	entries, err := retries.Load(ctx, b.prefix()+"*")
	if err != nil {
		return err
	}
	return b.read(entries)
}

// read makes the book what the entries of its keys say. An error is an ErrRecords.
func (b *book) read(entries []jetstream.Entry) error {
	b.batches, b.next, b.numbers = nil, 1, map[place]uint64{}
	firsts := make([]uint64, len(entries))
	order := make([]int, len(entries))
	for i, e := range entries {
		var err error
		if firsts[i], err = strconv.ParseUint(e.Key[strings.LastIndexByte(e.Key, '.')+1:], 10, 64); err != nil {
			return fmt.Errorf("bucket %s: %w: key %s", jetstream.Retries, ErrRecords, e.Key)
		}
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(firsts[i], firsts[j]) })
	for _, i := range order {
		if firsts[i] != b.next {
			return fmt.Errorf("bucket %s: %w: key %s is missing; put the bucket back as it was", jetstream.Retries, ErrRecords, b.key(b.next))
		}
		var r record
		if err := json.Unmarshal(entries[i].Value, &r); err != nil {
			return fmt.Errorf("bucket %s: key %s: %w: %w", jetstream.Retries, entries[i].Key, ErrRecords, err)
		}
		if r.Version != recordVersion {
			return fmt.Errorf("bucket %s: key %s has version %d, this program knows %d: use the program that wrote it", jetstream.Retries, entries[i].Key, r.Version, recordVersion)
		}
		if err := b.add(r, entries[i].Revision); err != nil {
			return err
		}
	}
	return nil
}

// add appends a batch to the chain.
func (b *book) add(r record, revision uint64) error {
	link := batch{key: b.key(b.next), revision: revision, first: b.next, record: r}
	for _, text := range r.Rejections {
		id, err := ParseID(b.stream + "." + text)
		p := place{id.Sequence, id.Index}
		if _, twice := b.numbers[p]; err != nil || twice {
			return fmt.Errorf("bucket %s: key %s: %w: rejection %q", jetstream.Retries, link.key, ErrRecords, text)
		}
		b.numbers[p] = b.next
		b.next++
	}
	if b.next == link.first {
		return fmt.Errorf("bucket %s: key %s: %w: it has no rejections", jetstream.Retries, link.key, ErrRecords)
	}
	if link.Sequence > 0 {
		link.Rejections = nil
	}
	b.batches = append(b.batches, link)
	return nil
}

// sent returns how the rejection of a place was sent again, nil if it was not.
func (b *book) sent(p place) *Sent {
	number, ok := b.numbers[p]
	if !ok {
		return nil
	}
	i, found := slices.BinarySearchFunc(b.batches, number, func(l batch, n uint64) int { return cmp.Compare(l.first, n) })
	if !found {
		i-- // it is in the batch before the first that begins behind it
	}
	return &Sent{At: b.batches[i].At, Partition: b.partition, Number: number, Sequence: b.batches[i].Sequence}
}
