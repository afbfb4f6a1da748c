package audit

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/internal/proof"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/jetstream"
	"github.com/city-chain/holdfast/pkg/events"
)

// notary signs checkpoints of what is stored.
type notary struct {
	*world
	signer *attest.Signer
	key    attest.Key
}

func (w *world) notary() *notary {
	w.Helper()
	secret, public, err := attest.GenerateKey("ledger.example.org")
	w.must(err)
	n := &notary{world: w}
	n.signer, err = attest.NewSigner(secret)
	w.must(err)
	n.key, err = attest.ParseKey(public)
	w.must(err)
	return n
}

// sign signs the partition of a holder as it is stored, as change has changed it.
func (n *notary) sign(holder string, change func(*attest.Statement)) []byte {
	n.Helper()
	p, _, err := state.Load(n.Context(), state.Holds, &n.policy, events.PlaceOf(holder).Partition, n.client, n.client.Bucket(jetstream.Holds.Bucket))
	n.must(err)
	st, ok := p.Statement()
	if !ok {
		n.Fatal("there is nothing to be signed")
	}
	if change != nil {
		change(&st)
	}
	signed, err := n.signer.Sign(&st)
	n.must(err)
	return signed
}

// A proof is of the state that is stored, whoever stored it in however many batches, and the state follows from the events in it.
func TestProve(t *testing.T) {
	w := newWorld(t)
	n := w.notary()
	w.mixed()
	for i := range 30 {
		id := holderID(i)
		signed := n.sign(id, nil)
		for _, withEvents := range []bool{false, true} {
			f, err := Prove(t.Context(), ProveOptions{Source: Streams(w.client), Checkpoint: signed, Key: &n.key, Holder: id, Events: withEvents})
			if err != nil {
				t.Fatal(err)
			}
			v, err := f.Verify(n.key)
			if err != nil {
				t.Fatal(err)
			}
			stored, _, err := state.Load(t.Context(), state.Holds, &w.policy, events.PlaceOf(id).Partition, w.client, w.client.Bucket(jetstream.Holds.Bucket))
			w.must(err)
			h := stored.Slots()[events.PlaceOf(id).Slot].Content.Get(id)
			want, _ := h.At(&w.policy.Score, stored.Clock)
			if got, ok, err := v.Member.At(stored.Clock); !ok || err != nil || got != want {
				t.Errorf("%s: %+v, %t, %v; stored is %+v", id, got, ok, err, want)
			}
			if withEvents && (!v.Follows || len(v.Events) < 4) {
				t.Errorf("%s: it follows: %t, from %d events", id, v.Follows, len(v.Events))
			}
		}
	}
}

// A checkpoint that is older than what has been folded since is proved as of itself, and keeps the cosignature that it has.
func TestProveThePast(t *testing.T) {
	w := newWorld(t)
	n := w.notary()
	w.holds(events.Origin{}, hold("alice", 1000, 1010, "1"))
	w.store()
	signed := n.sign("alice", nil)
	secret, public, err := attest.GenerateWitnessKey("witness.example.com")
	w.must(err)
	cosigner, err := attest.NewCosigner(secret)
	w.must(err)
	witness, err := attest.ParseWitnessKey(public)
	w.must(err)
	signed, err = cosigner.Cosign(signed, time.Unix(1767226000, 0))
	w.must(err)
	w.holds(events.Origin{}, hold("alice", 1000, 1010, "1"))
	w.store()
	f, err := Prove(t.Context(), ProveOptions{Source: Streams(w.client), Checkpoint: signed, Holder: "alice", Events: true})
	if err != nil {
		t.Fatal(err)
	}
	v, err := f.Verify(n.key, witness)
	if err != nil {
		t.Fatal(err)
	}
	if r, _, err := v.Member.At(v.Statement.Clock); err != nil || r.Score.String() != "10" || len(v.Events) != 1 {
		t.Errorf("%s, %v, of %d events", r.Score, err, len(v.Events))
	}
}

// Where what was signed does not follow from the stream, or cannot be told to, there is no proof, and the reason is told.
func TestProveRefuses(t *testing.T) {
	untouched := told(t)
	for name, c := range map[string]struct {
		holder string
		signed func(n *notary) []byte
		tamper func(w *world)
		key    bool
		want   error
		says   string
	}{
		"another message root": {signed: func(n *notary) []byte {
			return n.sign("alice", func(s *attest.Statement) { s.Root = merkle.Empty })
		}, want: ErrContradiction, says: "a message was changed, added or taken away"},
		"another number of messages": {signed: func(n *notary) []byte {
			return n.sign("alice", func(s *attest.Statement) { s.Size-- })
		}, want: ErrContradiction, says: "has 2 messages"},
		"another state root": {signed: func(n *notary) []byte {
			return n.sign("alice", func(s *attest.Statement) { s.State = merkle.Empty })
		}, want: ErrContradiction, says: "and the state is not"},
		"another clock": {signed: func(n *notary) []byte {
			return n.sign("alice", func(s *attest.Statement) { s.Clock++ })
		}, want: ErrContradiction, says: "and the state is not"},
		"another policy": {signed: func(n *notary) []byte {
			return n.sign("alice", func(s *attest.Statement) { s.Policy["ttl"] = "1s" })
		}, want: ErrContradiction, says: "policy"},
		"a policy without a setting": {signed: func(n *notary) []byte {
			return n.sign("alice", func(s *attest.Statement) { delete(s.Policy, "ttl") })
		}, says: "ttl is missing"},
		"another stream": {signed: func(n *notary) []byte {
			return n.sign("alice", func(s *attest.Statement) { s.Created++ })
		}, want: jetstream.ErrStreamChanged, says: "was made at"},
		"a stream that ends before": {signed: func(n *notary) []byte {
			return n.sign("alice", func(s *attest.Statement) { s.Sequence += 100 })
		}, want: jetstream.ErrStreamChanged, says: "it was cut"},
		"another partition": {signed: func(n *notary) []byte {
			return n.sign("alice", func(s *attest.Statement) { s.Partition ^= 1 })
		}, says: "take a checkpoint of that one"},
		"another log": {signed: func(n *notary) []byte {
			return n.sign("alice", func(s *attest.Statement) { s.Stream = "POH" })
		}, says: "of POH"},
		"another key":    {signed: func(n *notary) []byte { return n.world.notary().sign("alice", nil) }, key: true, want: attest.ErrOtherKey},
		"no checkpoint":  {signed: func(n *notary) []byte { return []byte("hello") }, want: attest.ErrMalformed},
		"no such holder": {holder: "nobody", want: proof.ErrNoHolder, says: `"nobody"`},
		"a stream that has lost its first messages": {tamper: func(w *world) {
			s, err := w.js.Stream(w.Context(), "HOLDS")
			w.must(err)
			w.must(s.Purge(w.Context(), natsjs.WithPurgeKeep(1)))
		}, want: jetstream.ErrTrimmed, says: "begins at sequence"},
		"a stream that has lost a message": {tamper: func(w *world) { w.delete("HOLDS", 2) }, want: ErrGap, says: "message 2"},
	} {
		t.Run(name, func(t *testing.T) {
			n := untouched
			if c.tamper != nil {
				n = told(t)
			}
			if c.holder == "" {
				c.holder = "alice"
			}
			signed := n.sign(c.holder, nil)
			if c.signed != nil {
				signed = c.signed(n)
			}
			if c.tamper != nil {
				c.tamper(n.world)
			}
			o := ProveOptions{Source: Streams(n.client), Checkpoint: signed, Holder: c.holder, Events: true}
			if c.key {
				o.Key = &n.key
			}
			f, err := Prove(t.Context(), o)
			if err == nil || f != nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v; it is %v and says %q", err, c.want, c.says)
			}
		})
	}
}

// told returns a world that knows of alice and others, of which messages can be deleted.
func told(t *testing.T) *notary {
	w := newWorld(t)
	w.weaken()
	w.holds(events.Origin{}, hold("alice", 1000, 1010, "1"))
	w.holds(events.Origin{}, hold(holderID(1), 1000, 1010, "1"))
	w.holds(events.Origin{}, hold("alice", 1000, 1010, "2"))
	for i := 0; ; i++ { // somebody beside nobody
		if id := fmt.Sprint("x", i); events.PlaceOf(id).Partition == events.PlaceOf("nobody").Partition {
			w.holds(events.Origin{}, hold(id, 1000, 1010, "1"))
			break
		}
	}
	w.store()
	return w.notary()
}
