package partition

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/city-chain/holdfast/jetstream"
)

// view is the bucket as a watcher last saw it. It is not changed once it was posted.
type view struct {
	members []string // the IDs of those that take part and are not leaving, sorted
	owners  []string // by partition: who has the lease; "" nobody
	odd     []oddity // by partition: its lease, if the owner is unreadable
	err     error    // why the view may be old; nil if it is watched
}

// unreadable stands for the owner of a lease that cannot be read. It is nobody's ID.
const unreadable = "?"

// oddity is a lease that cannot be read. It is renewed if a newer version of this program wrote it, and else stays for ever.
type oddity struct {
	revision uint64
	seen     time.Time // when this revision was seen first
}

// watch posts a view after each change of the bucket, until ctx is done. It starts again whenever a watch ends: the
// bucket may have been deleted and made anew.
func (m *Membership) watch(ctx context.Context, posts chan view) {
	last := view{}
	said := "" // of what is logged already
	var pause backoff
	for {
		err := m.watchOnce(ctx, func(v view) {
			pause.reset()
			said = ""
			last = v
			post(posts, v)
		})
		if ctx.Err() != nil {
			return
		}
		if err.Error() != said {
			said = err.Error()
			m.Logger.Warn("the watch of the workers' bucket ended; trying again", "error", err)
		}
		last.err = err
		post(posts, last)
		select {
		case <-time.After(pause.next()):
		case <-ctx.Done():
			return
		}
	}
}

// watchOnce watches until something fails.
func (m *Membership) watchOnce(ctx context.Context, changed func(view)) error {
	w, err := m.Bucket.Watch(ctx, jetstream.AllKeys)
	if err != nil {
		return err
	}
	defer w.Stop()
	members := map[string]bool{} // by key: not leaving
	owners := map[string]string{}
	odd := map[string]oddity{}
	for caughtUp := false; ; {
		event, err := w.Next(ctx)
		if err != nil {
			return err
		}
		switch {
		case event.CaughtUp:
			caughtUp = true
		case event.Deleted:
			delete(members, event.Key)
			delete(owners, event.Key)
			delete(odd, event.Key)
		case strings.HasPrefix(event.Key, memberPrefix):
			r, err := decodeMember(event.Key, event.Value)
			if err != nil {
				m.Logger.Warn("a member is not counted", "error", advise(event.Key, err))
			}
			members[event.Key] = err == nil && !r.Leaving
		case strings.HasPrefix(event.Key, leasePrefix):
			_, r, err := decodeLease(event.Key, event.Value)
			delete(odd, event.Key)
			if err != nil {
				m.Logger.Warn("a lease is left alone until its key is gone, or not written again for a lease's time", "error", err)
				r.Owner = unreadable
				odd[event.Key] = oddity{event.Revision, time.Now()}
			}
			owners[event.Key] = r.Owner
		}
		if caughtUp {
			changed(m.newView(members, owners, odd))
		}
	}
}

func (m *Membership) newView(members map[string]bool, owners map[string]string, odd map[string]oddity) view {
	v := view{owners: make([]string, m.Partitions), odd: make([]oddity, m.Partitions)}
	for key, present := range members {
		if present {
			v.members = append(v.members, strings.TrimPrefix(key, memberPrefix))
		}
	}
	slices.Sort(v.members)
	for p := range v.owners {
		v.owners[p], v.odd[p] = owners[leaseKey(p)], odd[leaseKey(p)]
	}
	return v
}

// errNoView is why we do not take part before the bucket has been read.
var errNoView = errors.New("the workers' bucket has not been read yet")
