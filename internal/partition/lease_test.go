package partition

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestLease follows a lease through a lapse and its end.
func TestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fired := func(c <-chan struct{}) bool {
			select {
			case <-c:
				return true
			default:
				return false
			}
		}
		l := newLease(7)
		changed := l.Changed()
		if l.Held() || l.Partition() != 7 {
			t.Error("held before it was had")
		}
		l.extend(time.Now().Add(3 * time.Second))
		time.Sleep(2 * time.Second)
		l.extend(time.Now().Add(3 * time.Second))
		if !l.Held() || fired(changed) {
			t.Error("not held, or changed by a renewal in time")
		}
		time.Sleep(3 * time.Second)
		if l.Held() || l.Until().IsZero() {
			t.Error("held too long, or taken for lost")
		}
		if l.extend(time.Now()) || fired(changed) {
			t.Error("regained by a renewal that came too late to count")
		}
		if !l.extend(time.Now().Add(time.Second)) || !l.Held() || !fired(changed) {
			t.Error("not regained, or not told")
		}
		if changed = l.Changed(); fired(changed) {
			t.Error("changed twice")
		}
		l.end()
		l.end()
		if l.Held() || !l.Until().IsZero() || !fired(changed) || !fired(l.Changed()) {
			t.Error("not lost, or not told")
		}
	})
}
