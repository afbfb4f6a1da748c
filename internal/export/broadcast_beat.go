package export

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	v1 "github.com/city-chain/holdfast/api/holdfast/v1"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

const (
	// beatSpan is how long a beat is the newest: readers whose turns lie within it are told the same.
	beatSpan = 50 * time.Millisecond
	// beatLife is how long a beat is kept for readers who are in the middle of it. So the state that a reader is told is
	// nobody's to keep in memory for longer, however slowly that reader takes it.
	beatLife = time.Second
	// pieceBytes is about the size of a message: what a reader who does not read costs.
	pieceBytes = 64 << 10
	// maxShared bounds the messages that are kept for other readers of the same beats, in bytes.
	maxShared = 64 << 20
)

// position is how much a reader knows.
type position struct {
	bucket   time.Time // when the bucket was made
	revision uint64
	at       events.Time
}

// message is the position in the types of the API.
func (p *position) message() *v1.Position {
	return &v1.Position{Revision: p.revision, At: timestamp(p.at), Bucket: timestamppb.New(p.bucket)}
}

// behind tells whether the position is not one that comes from that by going on in the same bucket.
func (p *position) behind(that *position) bool { return p.revision < that.revision || p.at < that.at }

// beat is the state at an instant, for all readers who are told of it, and what was made of it for them. It is safe for
// concurrent use.
type beat struct {
	position
	number   uint64
	snapshot *Snapshot
	born     time.Time
	shared   *atomic.Int64 // bytes that all beats keep
	size     int           // of a message, about, in bytes

	mu     sync.Mutex
	pieces map[pieceKey]*sharedPiece // guarded by mu
	tops   map[int]*topList          // the first n of the ranking; guarded by mu
	news   map[topNews][]byte        // guarded by mu
	kept   int64                     // bytes of shared that are this beat's; guarded by mu
}

// beats are the newest beats.
type beats struct {
	view   *View
	span   time.Duration // how long a beat is the newest
	size   int           // of a message, about, in bytes
	shared atomic.Int64  // bytes that all beats keep

	mu     sync.Mutex
	live   []*beat // the newest last; guarded by mu
	number uint64  // guarded by mu
}

// current returns the newest beat, which is at most span old, or ErrNotLoaded. The caller lets go of it before it waits for
// its reader.
func (b *beats) current() (*beat, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.live); n > 0 && time.Since(b.live[n-1].born) < b.span {
		return b.live[n-1], nil
	}
	s, err := b.view.Snapshot()
	if err != nil {
		return nil, err
	}
	b.number++
	fresh := &beat{
		position: position{bucket: s.holds.created, revision: s.Revision(), at: max(s.now, s.Since())},
		number:   b.number, snapshot: s, born: time.Now(), shared: &b.shared, size: b.size,
		pieces: map[pieceKey]*sharedPiece{}, tops: map[int]*topList{}, news: map[topNews][]byte{},
	}
	b.live = append(b.live, fresh)
	time.AfterFunc(beatLife, func() { b.drop(fresh) })
	return fresh, nil
}

// find returns the beat of that number, nil if it is no longer kept.
func (b *beats) find(number uint64) *beat {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, live := range b.live {
		if live.number == number {
			return live
		}
	}
	return nil
}

// drop forgets a beat.
func (b *beats) drop(old *beat) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.live = slices.DeleteFunc(b.live, func(l *beat) bool { return l == old })
	old.mu.Lock()
	defer old.mu.Unlock()
	b.shared.Add(-old.kept)
	old.kept = maxShared // so that nothing more is kept
}

// cursor is a place in the state: everything before it was told. It is the start of a slot, or behind a holder in it.
type cursor struct {
	slot  int // partition and slot, 0 to all slots
	after string
}

// slotCount is how many slots the log of holds has.
const slotCount = events.Partitions * events.Slots

// pieceKey is what a piece of what is told of all holders depends on, beside the beat.
type pieceKey struct {
	from     position // the reader's; its at is the present one if snapshot
	begin    cursor
	snapshot bool
	steady   bool // everything before begin was told from the same beat
}

// piece is one message, as bytes that are made once for all readers.
type piece struct {
	encoded []byte
	end     cursor
	last    bool // nothing is left to be told
}

// sharedPiece is a piece that is made by the first who needs it.
type sharedPiece struct {
	once  sync.Once
	piece piece
}

// piece returns what a reader of all holders is told next. It makes it if no other reader has been told the same.
func (b *beat) piece(key pieceKey) piece {
	b.mu.Lock()
	p := b.pieces[key]
	if p == nil {
		p = &sharedPiece{}
		if b.kept < maxShared && b.shared.Load() < maxShared {
			b.pieces[key] = p
		}
	}
	b.mu.Unlock()
	p.once.Do(func() {
		p.piece = b.makePiece(key)
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.pieces[key] == p && b.kept < maxShared {
			b.kept += int64(len(p.piece.encoded))
			b.shared.Add(int64(len(p.piece.encoded)))
		}
	})
	return p.piece
}

// makePiece collects slots until they fill a message.
func (b *beat) makePiece(key pieceKey) piece {
	var told told
	at := key.begin
	for at.slot < slotCount && told.size < b.size {
		list := b.changed(key, at)
		at = cursor{slot: at.slot + 1}
		for i := range list {
			told.add(list[i].id, list[i].reading)
			if told.size >= b.size && i < len(list)-1 {
				at = cursor{slot: at.slot - 1, after: list[i].id}
				break
			}
		}
	}
	last := at.slot == slotCount
	return piece{encoded: encode(told.message(b, key.snapshot, last && key.steady)), end: at, last: last}
}

// change is a holder that is to be told of.
type change struct {
	id      string
	reading *score.Reading // nil: it has no score
}

// changed returns what is to be told of the slot at a cursor, by the order of ids.
func (b *beat) changed(key pieceKey, at cursor) []change {
	slot := b.snapshot.holds.partitions[at.slot/events.Slots].slots[at.slot%events.Slots]
	after, since := key.from.revision, key.from.at
	if key.snapshot {
		after = 0 // before every slot's
	}
	if slot == nil {
		return nil
	}
	var list []change
	slot.Content.yieldChanged(after, since, b.at, func(id string, reading *score.Reading) bool {
		if id > at.after && (reading != nil || !key.snapshot) {
			list = append(list, change{id, reading})
		}
		return true
	})
	slices.SortFunc(list, func(a, b change) int { return cmp.Compare(a.id, b.id) })
	return list
}

// told is what a message tells of holders.
type told struct {
	holders []*v1.Holder
	gone    []string
	size    int // about so many bytes
}

func (t *told) add(id string, reading *score.Reading) {
	if reading == nil {
		t.gone = append(t.gone, id)
		t.size += len(id) + 3
		return
	}
	h := readingMessage(id, 0, reading)
	t.holders = append(t.holders, h)
	t.size += proto.Size(h) + 4
}

// encode makes a message's bytes.
func encode(m *v1.BroadcastResponse) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic("export: a message that cannot be encoded: " + err.Error()) // ids are valid UTF-8
	}
	return b
}

// packed returns a message that is encoded already: all of it is in its unknown fields, which are written out as they are.
func packed(encoded []byte) *v1.BroadcastResponse {
	m := &v1.BroadcastResponse{}
	m.ProtoReflect().SetUnknown(encoded)
	return m
}
