package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/audit"
	"github.com/city-chain/holdfast/internal/files"
	"github.com/city-chain/holdfast/internal/proof"
	"github.com/city-chain/holdfast/pkg/events"
)

// verifying verifies a proof. It asks nobody.
type verifying struct {
	File    string   `arg:"" help:"File that holdfast prove has written." placeholder:"FILE"`
	Key     string   `help:"The operator's public key, or a file that has it." placeholder:"VKEY" type:"filled" required:""`
	Witness []string `help:"Public key, or a file that has it, of a witness that must have cosigned the checkpoint. May be given more than once." placeholder:"VKEY" type:"filled" sep:"none"`
	At      string   `help:"Instant to answer for: Unix seconds or RFC 3339; later than the checkpoint's clock, it is what comes of the holds that were known then. The checkpoint's clock if it is not given." placeholder:"TIME" type:"filled"`
	JSON    bool     `name:"json" help:"Show the answer as one JSON object."`
}

// Validate is called when the flags are parsed.
func (v verifying) Validate() error {
	_, err := v.instant()
	return err
}

// instant is the one to answer for, or nil.
func (v *verifying) instant() (*events.Time, error) {
	if v.At == "" {
		return nil, nil
	}
	at, err := events.ParseTime(v.At)
	if err != nil {
		return nil, fmt.Errorf("--at: %w", err)
	}
	return &at, nil
}

func (v *verifying) run(_ context.Context, s *session) error {
	verified, at, err := v.verify()
	switch {
	case err != nil && !errors.Is(err, proof.ErrRefused) && v.JSON:
		return errors.Join(printJSON(s.stdout, reasonAnswer{errUntold.Error(), err.Error()}), fmt.Errorf("%w (%w)", errUntold, errSaid))
	case err != nil && !errors.Is(err, proof.ErrRefused):
		return fmt.Errorf("%w: %w", errUntold, err)
	case err != nil && v.JSON:
		return errors.Join(printJSON(s.stdout, reasonAnswer{"refused", err.Error()}), errSaid)
	case err != nil:
		return err
	case v.JSON:
		err = printJSON(s.stdout, answerOf(verified, at))
	default:
		err = printVerified(s, verified, at)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUntold, err)
	}
	return nil
}

// verify verifies the file, and returns the instant to answer for. What is refused wraps proof.ErrRefused; any other error says that it cannot be
// told.
func (v *verifying) verify() (*proof.Verified, events.Time, error) {
	at, err := v.instant()
	if err != nil {
		return nil, 0, err
	}
	key, err := logKey(v.Key)
	if err != nil {
		return nil, 0, fmt.Errorf("--key: %w", err)
	}
	var witnesses []attest.WitnessKey
	for _, text := range v.Witness {
		w, err := witnessKey(text)
		if err != nil {
			return nil, 0, fmt.Errorf("--witness: %w", err)
		}
		witnesses = append(witnesses, w)
	}
	b, err := files.Read(v.File, proof.MaxBytes)
	if err != nil {
		return nil, 0, err
	}
	file, err := proof.Decode(b)
	if err != nil {
		return nil, 0, err
	}
	verified, err := file.Verify(key, witnesses...)
	if err != nil {
		return nil, 0, err
	}
	m := verified.Member
	if at == nil {
		return verified, max(m.Clock(), m.Since()), nil
	}
	if _, _, err := m.At(*at); err != nil {
		return nil, 0, fmt.Errorf("--at: the proof holds, and %w", err)
	}
	return verified, *at, nil
}

// verifiedAnswer is a proof that holds, in JSON. Score and rate are null if the holder has none at the instant.
type verifiedAnswer struct {
	Verdict    string          `json:"verdict"`
	HolderID   string          `json:"holder_id"`
	Origin     string          `json:"origin"`
	Sequence   uint64          `json:"sequence"` // that all of the partition is folded through
	Messages   uint64          `json:"messages"` // of the partition
	Clock      audit.Instant   `json:"clock"`
	At         audit.Instant   `json:"at"`
	KnownSince audit.Instant   `json:"known_since"`
	Score      *float64        `json:"score"`
	ScoreExact *string         `json:"score_exact"`
	RateExact  *string         `json:"rate_exact"`
	RateUntil  audit.Instant   `json:"rate_until"`
	Holds      *uint64         `json:"holds"`
	OpenHolds  *int            `json:"open_holds"`
	Unfinished []provedHold    `json:"unfinished"`
	Events     []provedEvent   `json:"events"`        // null: the file has none
	Follows    *bool           `json:"state_follows"` // from the events; null: the file has none
	Witnesses  []witnessAnswer `json:"witnesses"`
	Proved     []string        `json:"proved"`
	NotProved  []string        `json:"not_proved"`
}

// reasonAnswer is why a proof does not hold, or why that could not be told, in JSON.
type reasonAnswer struct {
	Verdict string `json:"verdict"` // "refused" or "could not tell"
	Reason  string `json:"reason"`
}

type witnessAnswer struct {
	Name string `json:"name"`
	At   int64  `json:"at"` // Unix seconds
}

// provedHold is a hold that has not ended at the instant.
type provedHold struct {
	TokenID     string        `json:"token_id"`
	HoldID      *string       `json:"hold_id"`
	Start       audit.Instant `json:"start"`
	End         audit.Instant `json:"end"`
	WeightExact string        `json:"weight_exact"`
	Balance     bool          `json:"balance"`
}

// provedEvent is an event of the holder in the log. What its kind does not have is null.
type provedEvent struct {
	Sequence    uint64         `json:"sequence"`
	StoredAt    time.Time      `json:"stored_at"`
	Item        int            `json:"item"`
	Kind        string         `json:"kind"`
	TokenID     string         `json:"token_id"`
	HoldID      *string        `json:"hold_id"`
	Start       *audit.Instant `json:"start"`
	End         *audit.Instant `json:"end"`
	WeightExact *string        `json:"weight_exact"`
}

func answerOf(v *proof.Verified, at events.Time) verifiedAnswer {
	st, m := v.Statement, v.Member
	a := verifiedAnswer{
		Verdict: "verified", HolderID: m.ID(), Origin: st.Origin(), Sequence: st.Sequence, Messages: st.Size, Clock: audit.Instant(st.Clock),
		At: audit.Instant(at), KnownSince: audit.Instant(m.Since()), RateUntil: audit.Instant(events.Open),
		Unfinished: []provedHold{}, Witnesses: []witnessAnswer{}, Proved: v.Proves(), NotProved: v.DoesNotProve(),
	}
	if r, ok, _ := m.At(at); ok { // verify has seen that the instant is known
		number, score, rate := r.Score.Float64(), r.Score.String(), r.Rate.String()
		a.Score, a.ScoreExact, a.RateExact, a.RateUntil, a.Holds, a.OpenHolds = &number, &score, &rate, audit.Instant(r.RateUntil), &r.Holds, &r.OpenHolds
		for _, h := range m.Unfinished(at) {
			a.Unfinished = append(a.Unfinished, provedHold{h.Token, orNull(h.HoldID), audit.Instant(h.Start), audit.Instant(h.End), h.Weight.String(), h.Balance})
		}
	}
	for _, w := range v.Witnesses {
		a.Witnesses = append(a.Witnesses, witnessAnswer{w.Name, w.At.Unix()})
	}
	if v.Events != nil {
		a.Follows = &v.Follows
	}
	for i := range v.Events {
		a.Events = append(a.Events, eventOf(&v.Events[i]))
	}
	return a
}

func eventOf(e *proof.Event) provedEvent {
	p := provedEvent{Sequence: e.Sequence, StoredAt: e.Stored, Item: e.Item, Kind: e.Kind.String(), TokenID: e.Token, HoldID: orNull(e.HoldID)}
	if e.Kind != events.KindRelease {
		start, weight := audit.Instant(e.Start), e.Weight.String()
		p.Start, p.WeightExact = &start, &weight
	}
	if e.Kind != events.KindBalance {
		end := audit.Instant(e.End)
		p.End = &end
	}
	return p
}

// orNull is a text, or null if it is empty.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// printVerified prints a proof that holds, for people. No sentence is cut where a terminal ends.
func printVerified(s *session, v *proof.Verified, at events.Time) error {
	a := answerOf(v, at)
	t := table{align: "ll"}
	t.add("holder", shown(a.HolderID))
	t.add("at", at.String())
	if a.ScoreExact == nil {
		t.add("score", "none: the holder does not count then")
	} else {
		t.add("score (weight·s)", *a.ScoreExact)
		t.add("rate (1/s)", *a.RateExact)
		t.add("holds", number(*a.Holds))
		t.add("open holds", number(*a.OpenHolds))
	}
	t.add("known since", beginning(moment{v.Member.Since(), true}))
	lines := append([]line{{text: "verified", style: strong}, {}}, t.lines("  ")...)
	if len(a.Unfinished) > 0 {
		holds := table{align: "llrll", head: true}
		holds.add("token", "hold", "weight", "from", "to")
		for _, h := range a.Unfinished {
			id := "-"
			if h.HoldID != nil {
				id = shown(*h.HoldID)
			}
			holds.add(shown(h.TokenID), id, h.WeightExact, events.Time(h.Start).String(), events.Time(h.End).String())
		}
		lines = append(append(lines, line{}), holds.lines("  ")...)
	}
	if err := s.screen.print(lines); err != nil {
		return err
	}
	for _, part := range []struct {
		title     string
		sentences []string
	}{{"proved", a.Proved}, {"not proved", a.NotProved}} {
		if err := s.screen.print([]line{{}, {text: part.title, style: strong}}); err != nil {
			return err
		}
		for _, sentence := range part.sentences {
			if _, err := fmt.Fprintln(s.stdout, "  "+escaped(sentence)); err != nil {
				return err
			}
		}
	}
	return nil
}
