package ingest

import (
	"reflect"
	"sync/atomic"

	"github.com/city-chain/holdfast/internal/ingest/producers"
	"github.com/city-chain/holdfast/pkg/events"
)

// eventRoom is the most memory that an event takes besides its bytes: where it stands in the body, decoded, and what its ids take.
var eventRoom = sizeOf[item]() + max(sizeOf[events.HoldEvent](), sizeOf[events.PoHEvent]()) + producers.Room

// firstItems is how many items a body gets room for at first.
const firstItems = 16

// budget bounds the memory that requests take, in bytes.
type budget struct{ left atomic.Int64 }

// share is what one request has of a budget. It belongs to the request's goroutine.
type share struct {
	budget *budget
	held   int64
}

// take takes so many bytes more, if they are left.
func (s *share) take(n int64) bool {
	if s.budget.left.Add(-n) < 0 {
		s.budget.left.Add(n)
		return false
	}
	s.held += n
	return true
}

// give gives back so many bytes of what was taken.
func (s *share) give(n int64) {
	s.budget.left.Add(n)
	s.held -= n
}

// release gives everything back.
func (s *share) release() {
	s.budget.left.Add(s.held)
	s.held = 0
}

// itemList collects the items of a body, at most so many, and takes memory for them as they come.
type itemList struct {
	items  []item
	most   int
	memory *share
}

func (l *itemList) add(i item) *problem {
	if len(l.items) == l.most {
		return tooMany(l.most)
	}
	if len(l.items) == cap(l.items) {
		size := min(max(2*cap(l.items), firstItems), l.most)
		if !l.memory.take(int64(size-cap(l.items)) * sizeOf[item]()) {
			return tooBusy()
		}
		l.items = append(make([]item, 0, size), l.items...)
	}
	l.items = append(l.items, i)
	return nil
}

func sizeOf[T any]() int64 { return int64(reflect.TypeFor[T]().Size()) }

// tooBusy makes the problem of a request that there is no memory for.
func tooBusy() *problem {
	return unavailable(1, "too many requests at once; nothing of this one was taken, send it again")
}
