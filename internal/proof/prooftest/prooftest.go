// Package prooftest makes proofs for tests: a partition folded in memory, its trees, a key, and files that prove its holders.
package prooftest

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/internal/proof"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
	"github.com/city-chain/holdfast/pkg/wire"
)

// Created is when the stream was made.
var Created = time.Date(2026, 1, 1, 0, 0, 0, 123456789, time.UTC)

// Partition is the partition that is folded: that of "alice".
var Partition = events.PlaceOf("alice").Partition

// World is a partition, and who has signed it.
type World struct {
	t        testing.TB
	Signer   *attest.Signer
	Key      attest.Key
	Cosigner *attest.Cosigner
	Witness  attest.WitnessKey
	Policy   state.Policy
	Folded   *state.Partition[events.HoldEvent, *score.Holders]
	Messages []state.Message
	Signed   []byte // the checkpoint that was signed last
}

// New returns a world in which nothing has happened, under the default policy as change has changed it.
func New(t testing.TB, change func(*state.Policy)) *World {
	t.Helper()
	w := &World{t: t, Policy: state.DefaultPolicy()}
	if change != nil {
		change(&w.Policy)
	}
	secret, public, err := attest.GenerateKey("ledger.example.org")
	w.check(err)
	w.Signer, err = attest.NewSigner(secret)
	w.check(err)
	w.Key, err = attest.ParseKey(public)
	w.check(err)
	secret, public, err = attest.GenerateWitnessKey("witness.example.com/w1")
	w.check(err)
	w.Cosigner, err = attest.NewCosigner(secret)
	w.check(err)
	w.Witness, err = attest.ParseWitnessKey(public)
	w.check(err)
	w.Folded = state.NewPartition(state.Holds, &w.Policy, Created, Partition)
	return w
}

func (w *World) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// Say has a message stored and folded, so long after the stream was made. Its sequence is the double of its number, from 2.
func (w *World) Say(after time.Duration, body []byte) {
	m := state.Message{Sequence: 2*uint64(len(w.Messages)) + 2, Time: Created.Add(after), Data: body}
	w.Messages = append(w.Messages, m)
	w.Folded.Fold(m, nil)
}

// Envelope returns an envelope of events.
func Envelope(o events.Origin, list ...events.HoldEvent) []byte {
	return events.AppendHolds(nil, o, list)
}

// Sign signs the partition as it is. What change changes of the statement is signed.
func (w *World) Sign(change func(*attest.Statement)) {
	w.t.Helper()
	st, ok := w.Folded.Statement()
	if !ok {
		w.t.Fatal("there is nothing to be signed")
	}
	st.Name = w.Signer.Name()
	if change != nil {
		change(&st)
	}
	var err error
	w.Signed, err = w.Signer.Sign(&st)
	w.check(err)
}

// leaves are those of the tree of messages.
func (w *World) leaves() []merkle.Hash {
	list := []merkle.Hash{}
	for _, m := range w.Messages {
		list = append(list, merkle.Message(m.Sequence, m.Time.UnixNano(), m.Data))
	}
	return list
}

// File returns the file that proves a holder's state at the checkpoint that was signed last, with its events or without.
func (w *World) File(holder string, withEvents bool) *proof.File {
	w.t.Helper()
	place := events.PlaceOf(holder)
	if place.Partition != Partition || w.Folded.Slots()[place.Slot] == nil {
		w.t.Fatalf("%q is of another partition, or its slot is empty", holder)
	}
	p := proof.Parts{Checkpoint: w.Signed, Holder: holder}
	p.State, _ = w.Folded.StateLeaves()
	var err error
	p.Slot, err = state.Holds.Leaves("slot", w.Folded.EncodeSlot(place.Slot, w.Folded.Sequence))
	w.check(err)
	if withEvents {
		p.Messages = w.leaves()
		for i, m := range w.Messages {
			_, list, err := events.DecodeHolds(m.Data, nil)
			if err != nil {
				continue
			}
			var items []int
			for j := range list {
				if list[j].Holder == holder {
					items = append(items, j)
				}
			}
			if items != nil {
				p.Events = append(p.Events, proof.Message{Sequence: m.Sequence, Stored: m.Time.UnixNano(), Leaf: uint64(i), Data: m.Data, Items: items})
			}
		}
	}
	f, err := proof.Assemble(p)
	w.check(err)
	return f
}

// Like returns an id of the partition that is folded, which begins so.
func Like(prefix string) string {
	for i := 0; ; i++ {
		if id := fmt.Sprint(prefix, i); events.PlaceOf(id).Partition == Partition {
			return id
		}
	}
}

// Neighbours returns ids that lie in the slot of a holder, so many.
func Neighbours(holder string, n int) (ids []string) {
	place := events.PlaceOf(holder)
	for i := 0; len(ids) < n; i++ {
		if id := fmt.Sprintf("n%d", i); events.PlaceOf(id) == place {
			ids = append(ids, id)
		}
	}
	return ids
}

// InPartition returns ids of the partition that is folded, so many, none of them of the holder's slot.
func InPartition(holder string, n int) (ids []string) {
	place := events.PlaceOf(holder)
	for i := 0; len(ids) < n; i++ {
		id := fmt.Sprintf("p%d", i)
		if p := events.PlaceOf(id); p.Partition == place.Partition && p.Slot != place.Slot {
			ids = append(ids, id)
		}
	}
	return ids
}

// Busy returns a world with all that a holder's state and events can be: alice has every form of entry, and neighbours in its slot, in every form of message.
func Busy(t testing.TB, change func(*state.Policy)) *World {
	t.Helper()
	w := New(t, change)
	at := func(seconds int) events.Time { return events.TimeOf(Created) + events.Time(seconds)*1000 }
	weight := func(s string) events.Weight {
		v, err := events.ParseWeight(s)
		w.check(err)
		return v
	}
	near := Neighbours("alice", 5)
	far := InPartition("alice", 6)
	hold := func(holder, id string, start, end int, w string) events.HoldEvent {
		e := events.HoldEvent{Kind: events.KindHold, Token: "gold", Holder: holder, HoldID: id, Start: at(start), End: events.Open, Weight: weight(w)}
		if end >= 0 {
			e.End = at(end)
		}
		return e
	}
	first := Envelope(events.Origin{}, hold(near[0], "", 0, 10, "1"), hold("alice", "", 0, 60, "2.5"), hold("alice", "h1", 0, -1, "0.000000001"), hold(near[1], "", 0, -1, "3"))
	w.Say(time.Second, first)
	w.Say(2*time.Second, fmt.Appendf(nil, `{"token_id":"iron","holder_id":"alice","start":%s,"weight":"1e3"}`, at(1).Seconds()))
	w.Say(3*time.Second, []byte("nonsense"))
	numbered := events.Origin{Producer: "p", Epoch: 1, First: 1}
	w.Say(4*time.Second, Envelope(numbered, hold(far[0], "", 1, 2, "1"), hold("alice", "h2", 3, 4, "79228162514264337593543950336")))
	w.Say(5*time.Second, Envelope(numbered, hold(far[0], "", 1, 2, "1"), hold("alice", "h2", 3, 4, "79228162514264337593543950336")))
	w.Say(6*time.Second, fmt.Appendf(nil, `{"kind":"balance","token_id":"coin","holder_id":"al\u0069ce","at":"2026-01-01T00:00:05.5Z","weight":7}`))
	w.Say(7*time.Second, Envelope(events.Origin{}, events.HoldEvent{Kind: events.KindRelease, Token: "gold", Holder: "alice", HoldID: "later", End: at(6)}))
	w.Say(8*time.Second, openMsgpack("token_id", "gold", "holder_id", "alice", "hold_id", "h3", "start", 1767225607.25, "end", uint64(1767229207), "weight", float32(0.1)))
	w.Say(9*time.Second, Envelope(events.Origin{}, hold(near[2], "", 8, -1, "4"), hold(far[1], "", 8, -1, "4"), hold(near[3], "", 8, -1, "4")))
	w.Say(120*time.Second, Envelope(events.Origin{Producer: "p", Epoch: 1, First: 3}, hold(far[2], "", 8, -1, "4"), hold(near[4], "x", 8, -1, "4"), hold("alice", "", 70, 90, "1.5")))
	w.Say(121*time.Second, fmt.Appendf(nil, `{"token_id":"iron","holder_id":%q,"start":1767225600,"weight":1}`, far[3]))
	return w
}

// OtherForms returns a file of alice's with events, by what was done to its bytes: all of them are to be refused.
func OtherForms(text string) map[string]string {
	return map[string]string{
		"nothing":               "",
		"null":                  "null",
		"a list":                "[" + text + "]",
		"cut":                   text[:len(text)-3],
		"more":                  text + "{}",
		"no JSON":               "x" + text,
		"another format":        strings.Replace(text, "holdfast-proof/1", "holdfast-proof/2", 1),
		"an unknown field":      strings.Replace(text, `"holder":`, `"note": 1, "holder":`, 1),
		"a field twice":         strings.Replace(text, `"holder":`, `"holder": "bob", "holder":`, 1),
		"a field in upper case": strings.Replace(text, `"holder":`, `"Holder":`, 1),
		"a field left out":      strings.Replace(text, `"holder": "alice",`, ``, 1),
		"an escape":             strings.Replace(text, `"alice"`, `"al\u0069ce"`, 1),
		"a number as a text":    strings.Replace(text, `"index": `, `"index": "1", "x": `, 1),
		"a number with a point": strings.Replace(text, `"slot": `, `"slot": 0e0, "x": `, 1),
		"a text as a number":    strings.Replace(text, `"sequence": "2"`, `"sequence": 2`, 1),
		"zeros in front":        strings.Replace(text, `"sequence": "2"`, `"sequence": "02"`, 1),
		"bits behind base64":    strings.Replace(text, `="`, `= "`, 1),
		"no padding":            strings.Replace(text, `="`, `"`, 1),
		"not UTF-8":             strings.Replace(text, `"alice"`, "\"alice\xff\"", 1),
		"no path":               strings.Replace(text, `"slot_path": [`, `"slot_path": null, "x": [`, 1),
	}
}

// openMsgpack returns an event in the open form, in MessagePack.
func openMsgpack(fields ...any) []byte {
	b := []byte{0x80 | byte(len(fields)/2)}
	for _, f := range fields {
		switch v := f.(type) {
		case string:
			b = wire.AppendString(b, v)
		case uint64:
			b = wire.AppendUint(b, v)
		case float64:
			b = binary.BigEndian.AppendUint64(append(b, 0xcb), math.Float64bits(v))
		case float32:
			b = binary.BigEndian.AppendUint32(append(b, 0xca), math.Float32bits(v))
		}
	}
	return b
}
