package audit

import (
	"math/big"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// Change is what another policy makes of one holder.
type Change struct {
	HolderID        string  `json:"holder_id"`
	Rank            *uint64 `json:"rank"`         // under the recorded policy; null: it does not count, and so the next
	OtherRank       *uint64 `json:"what_if_rank"` // under the other one
	RankChange      *int64  `json:"rank_change"`  // places won; null: it has only one rank
	ScoreExact      string  `json:"score_exact"`  // 0 if it does not count
	OtherScoreExact string  `json:"what_if_score_exact"`
	DifferenceExact string  `json:"difference_exact"` // the other score less the recorded one; "-" before it if it is negative
	// The scores within the windows of the policies, exactly; null: there is none, or it is not known for the instant.
	WindowScoreExact      *string `json:"window_score_exact"`
	OtherWindowScoreExact *string `json:"what_if_window_score_exact"`
}

// Changes returns what another policy makes of each holder that is among the first n of either ranking, all for n < 1: in the order of
// the recorded ranking, and behind them, in the order of the other one, those that do not count in it.
func (r *Result) Changes(n int) []Change {
	if r.WhatIf == nil {
		return nil
	}
	type place struct {
		rank uint64
		*ranked
	}
	places := func(a *Answer) map[string]place {
		m := make(map[string]place, len(a.ranking))
		for i := range a.ranking {
			m[a.ranking[i].ID] = place{uint64(i + 1), &a.ranking[i]}
		}
		return m
	}
	recorded, other := places(r.Recorded), places(r.WhatIf)
	shown := func(rank uint64) bool { return rank > 0 && (n < 1 || rank <= uint64(n)) }
	finer := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(r.WhatIf.digits)), nil)
	change := func(id string) Change {
		c := Change{HolderID: id, ScoreExact: "0", OtherScoreExact: "0"}
		difference := new(big.Int)
		if p, ok := recorded[id]; ok {
			c.Rank = &p.rank
			_, c.ScoreExact = r.Recorded.score(p.Score)
			n := integer(p.Score)
			difference.Sub(difference, n.Mul(n, finer))
			c.WindowScoreExact = r.Recorded.windowExact(p.ranked)
		}
		if p, ok := other[id]; ok {
			c.OtherRank = &p.rank
			_, c.OtherScoreExact = r.WhatIf.score(p.Score)
			difference.Add(difference, integer(p.Score))
			c.OtherWindowScoreExact = r.WhatIf.windowExact(p.ranked)
		}
		if c.Rank != nil && c.OtherRank != nil {
			won := int64(*c.Rank) - int64(*c.OtherRank)
			c.RankChange = &won
		}
		if difference.Sign() < 0 {
			c.DifferenceExact = "-"
		}
		c.DifferenceExact += events.Decimal(difference.Abs(difference), score.SumDigits+r.WhatIf.digits)
		return c
	}
	var list []Change
	for i := range r.Recorded.ranking {
		if id := r.Recorded.ranking[i].ID; shown(uint64(i+1)) || shown(other[id].rank) {
			list = append(list, change(id))
		}
	}
	for i := range r.WhatIf.ranking {
		if id := r.WhatIf.ranking[i].ID; shown(uint64(i+1)) && recorded[id].rank == 0 {
			list = append(list, change(id))
		}
	}
	return list
}

// windowExact returns the score of a holder within the window, exactly; nil if there is none.
func (a *Answer) windowExact(of *ranked) *string {
	if of.window == nil {
		return nil
	}
	_, exact := a.score(of.window.score)
	return &exact
}
