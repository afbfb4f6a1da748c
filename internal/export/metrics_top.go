package export

import (
	"sync"

	"github.com/city-chain/holdfast/pkg/score"
)

// leaders picks the holders whose scores the metrics show. Each that comes or goes begins or ends a series, so two who
// are about equal must not come and go by turns: one comes in when it is among the first n, and goes when it is behind
// the next quarter of n and one more. So there are n of them, or a quarter more, never others.
//
// What is shown is remembered in memory alone. An exporter that has just started shows the first n and nobody else; of
// two that run side by side one may show somebody behind the n-th whom the other does not show, and both show the first n.
type leaders struct {
	n int

	mu    sync.Mutex
	shown map[string]bool // as of the last scrape; guarded by mu
}

// reach returns how much of the ranking pick wants to see: no more is ever shown.
func (l *leaders) reach() int {
	if l.n == 0 {
		return 0
	}
	return l.n + l.n/4 + 1
}

// pick returns those who are shown, in their order, of the first reach() of a ranking.
func (l *leaders) pick(ranking []score.Ranked) []score.Ranked {
	l.mu.Lock()
	defer l.mu.Unlock()
	var picked []score.Ranked
	shown := make(map[string]bool, len(ranking))
	for i := range ranking {
		if h := &ranking[i]; i < l.n || l.shown[h.ID] {
			picked = append(picked, *h)
			shown[h.ID] = true
		}
	}
	l.shown = shown
	return picked
}
