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
	Attempt    string    `json:"attempt"`        // made up for each: tells one's own from another's
	Created    time.Time `json:"stream_created"` // when the log's stream was made: with its name, its identity
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

// key is where the batch that begins with a number is stored.
func (b *book) key(first uint64) string {
	return b.stream + "." + strconv.Itoa(b.partition) + "." + strconv.FormatUint(first, 10)
}

// loadBooks reads all books.
func (a *Archive) loadBooks(ctx context.Context) (books, error) {
	entries, err := a.retries.Load(ctx, jetstream.AllKeys)
	if err != nil {
		return nil, explain(err)
	}
	all := books{}
	byBook := map[*book][]jetstream.Entry{}
	for stream := range codecs {
		all[stream] = new([jetstream.Partitions]book)
		for i := range all[stream] {
			all[stream][i] = book{stream: stream, partition: i}
			byBook[&all[stream][i]] = nil
		}
	}
	for _, e := range entries {
		b, err := all.of(e.Key)
		if err != nil {
			return nil, err
		}
		byBook[b] = append(byBook[b], e)
	}
	for b, list := range byBook {
		if err := b.read(list); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// of returns the book that a key belongs to.
func (bs books) of(key string) (*book, error) {
	tokens := strings.Split(key, ".")
	if list, ok := bs[tokens[0]]; ok && len(tokens) == 3 {
		if p, err := strconv.Atoi(tokens[1]); err == nil && p >= 0 && p < len(list) {
			return &list[p], nil
		}
	}
	return nil, fmt.Errorf("bucket %s: %w: nothing of this program's has the key %s", jetstream.Retries, ErrRecords, key)
}

// sent returns how a rejection was sent again, nil if it was not.
func (bs books) sent(id ID) *Sent {
	list := bs[id.Stream]
	if list == nil {
		return nil
	}
	for i := range list {
		if s := list[i].sent(place{id.Sequence, id.Index}); s != nil {
			return s
		}
	}
	return nil
}

// reload reads the book again.
func (b *book) reload(ctx context.Context, retries bucket) error {
	entries, err := retries.Load(ctx, b.stream+"."+strconv.Itoa(b.partition)+".*")
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
