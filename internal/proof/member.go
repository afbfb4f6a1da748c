package proof

import (
	"fmt"
	"strconv"
	"time"

	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
	"github.com/city-chain/holdfast/pkg/wire"
)

// Member is a holder's state as of a checkpoint.
type Member struct {
	id     string
	clock  events.Time
	policy *score.Policy
	holder *score.Holder
}

// ID returns the holder's id.
func (m *Member) ID() string { return m.id }

// Clock returns the checkpoint's clock: up to it, the state is what happened.
func (m *Member) Clock() events.Time { return m.clock }

// Since returns the first instant at which the score is known.
func (m *Member) Since() events.Time { return m.holder.Since() }

// At returns the holder's score at an instant, by what the checkpoint knows. ok is false if the holder has none then: it has not held anything, or has
// expired. The error is a *score.ForgottenError for an instant before Since.
func (m *Member) At(t events.Time) (r score.Reading, ok bool, err error) {
	if since := m.holder.Since(); t < since {
		return score.Reading{}, false, &score.ForgottenError{At: t, Since: since}
	}
	r, ok = m.holder.At(m.policy, t)
	return r, ok, nil
}

// Unfinished returns the holder's holds that have not ended at t, in the order in which they came.
func (m *Member) Unfinished(t events.Time) []score.OpenHold { return m.holder.Unfinished(t) }

// readMember reads a holder's bytes.
func readMember(value string, p *score.Policy) (*Member, error) {
	alone := wire.AppendUint(wire.AppendArray(nil, 3), 0)           // nothing is forgotten
	alone = wire.AppendUint(wire.AppendArray(alone, 1), 0)          // a histogram of nothing
	r := wire.NewReader(string(wire.AppendArray(alone, 1)) + value) // one holder
	t := score.DecodeTable(p, &r)
	if err := r.Close(); err != nil {
		return nil, err
	}
	return &Member{id: t.ID(0), policy: p, holder: t.Holder(0)}, nil
}

// encodingOf returns a holder's bytes.
func encodingOf(p *score.Policy, hs *score.Holders, id string) string {
	r := wire.NewReader(string(hs.Append(nil)))
	t := score.DecodeTable(p, &r)
	if i, found := t.Find(id); found && r.Close() == nil {
		return t.Encoding(i)
	}
	return ""
}

// scorePolicy returns what a recorded policy says of scores.
func scorePolicy(recorded map[string]string) (*score.Policy, error) {
	var p score.Policy
	var err error
	wrong := func(name, what string) {
		if err == nil {
			err = fmt.Errorf("the policy says %q of %s, which is %s", recorded[name], name, what)
		}
	}
	for name, into := range map[string]*events.Time{"ttl": &p.TTL, "window": &p.Window, "window_step": &p.WindowStep} {
		d, bad := time.ParseDuration(recorded[name])
		if bad != nil || d < 0 || d%time.Millisecond != 0 || d.String() != recorded[name] {
			wrong(name, "no length of time")
		}
		*into = events.Time(d / time.Millisecond)
	}
	for name, into := range map[string]*int{"max_holds_per_holder": &p.MaxHolds, "max_tokens_per_holder": &p.MaxTokens, "max_bytes_per_slot": &p.SlotBytes} {
		n, bad := strconv.Atoi(recorded[name])
		if bad != nil || strconv.Itoa(n) != recorded[name] {
			wrong(name, "no number")
		}
		*into = n
	}
	if p.TTLOpen = recorded["ttl_open_holds"] == "true"; !p.TTLOpen && recorded["ttl_open_holds"] != "false" {
		wrong("ttl_open_holds", "neither true nor false")
	}
	if err == nil {
		err = p.Validate()
	}
	return &p, err
}

// memberID returns the id in a holder's bytes, "" if there is none.
func memberID(value []byte) string {
	r := wire.NewReader(string(value))
	r.Array()
	return r.String()
}
