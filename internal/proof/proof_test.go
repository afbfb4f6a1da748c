package proof_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/internal/proof"
	"github.com/city-chain/holdfast/internal/proof/prooftest"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
)

// signedBusy is a busy world, signed.
func signedBusy(t testing.TB) *prooftest.World {
	w := prooftest.Busy(t, nil)
	w.Sign(nil)
	return w
}

// read verifies bytes as a command does.
func read(b []byte, key attest.Key, witnesses ...attest.WitnessKey) (*proof.Verified, error) {
	f, err := proof.Decode(b)
	if err != nil {
		return nil, err
	}
	return f.Verify(key, witnesses...)
}

func encode(t testing.TB, f *proof.File) []byte {
	t.Helper()
	b, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Every holder of the partition is proved, and the score is what the fold has.
func TestVerifies(t *testing.T) {
	w := signedBusy(t)
	holders := 0
	for _, s := range w.Folded.Slots() {
		for id, h := range s.Content.All() {
			holders++
			for _, withEvents := range []bool{false, true} {
				v, err := read(encode(t, w.File(id, withEvents)), w.Key)
				if err != nil {
					t.Fatalf("%s: %v", id, err)
				}
				at := w.Folded.Clock + 12345
				want, _ := h.At(&w.Policy.Score, at)
				got, ok, err := v.Member.At(at)
				if err != nil || !ok || got != want {
					t.Errorf("%s at %s: %+v, %t, %v; the fold says %+v", id, at, got, ok, err, want)
				}
				if v.Member.ID() != id || v.Member.Clock() != w.Folded.Clock || v.Member.Since() != h.Since() || !withEvents && (v.Events != nil || v.Follows) {
					t.Errorf("%s: verified: %+v", id, v)
				}
				if withEvents && !v.Follows {
					t.Errorf("%s: its state does not follow from its events", id)
				}
			}
		}
	}
	if holders != 10 {
		t.Errorf("%d holders were proved", holders)
	}
	v, err := read(encode(t, w.File("alice", true)), w.Key)
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, e := range v.Events {
		shown = append(shown, fmt.Sprintf("%d.%d %s", e.Sequence, e.Item, e.Kind))
	}
	if got, want := strings.Join(shown, ", "), "2.1 hold, 2.2 hold, 4.0 hold, 8.1 hold, 10.1 hold, 12.0 balance, 14.0 release, 16.0 hold, 20.2 hold"; got != want {
		t.Errorf("events of alice: %s; they are %s", got, want)
	}
	if _, _, err := v.Member.At(v.Member.Since() - 1); err == nil {
		t.Error("an instant that is forgotten is answered")
	}
}

// A file is read however it is indented, and in no other form.
func TestForm(t *testing.T) {
	w := signedBusy(t)
	good := encode(t, w.File("alice", true))
	var narrow, wide bytes.Buffer
	if err := errors.Join(json.Compact(&narrow, good), json.Indent(&wide, good, "\t", "   ")); err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{good, narrow.Bytes(), wide.Bytes(), append([]byte(" \n"), good...)} {
		if _, err := read(b, w.Key); err != nil {
			t.Error(err)
		}
	}
	text := string(good)
	for name, changed := range prooftest.OtherForms(text) {
		if changed == text {
			t.Errorf("%s: nothing is changed", name)
		}
		if _, err := read([]byte(changed), w.Key); !errors.Is(err, proof.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is signed of something else, or not by the key, proves nothing.
func TestCheckpointRefused(t *testing.T) {
	w := signedBusy(t)
	other := prooftest.New(t, nil)
	good := w.File("alice", true)
	sign := func(change func(*attest.Statement)) string {
		w.Sign(change)
		return string(w.Signed)
	}
	for name, c := range map[string]struct {
		checkpoint string
		key        attest.Key
		want       string
	}{
		"another key":          {good.Checkpoint, other.Key, "not signed by this key: another key of the same name, ledger.example.org, has signed it"},
		"another stream":       {sign(func(s *attest.Statement) { s.Stream = "POH" }), w.Key, "of the stream POH"},
		"another partition":    {sign(func(s *attest.Statement) { s.Partition ^= 1 }), w.Key, "is of partition"},
		"made again":           {sign(func(s *attest.Statement) { s.State[0] ^= 1 }), w.Key, "or its path: it leads to "},
		"history rewritten":    {sign(func(s *attest.Statement) { s.Root[0] ^= 1 }), w.Key, "root of messages"},
		"fewer messages":       {sign(func(s *attest.Statement) { s.Size-- }), w.Key, "root of messages"},
		"an earlier sequence":  {sign(func(s *attest.Statement) { s.Sequence = 19 }), w.Key, "behind sequence 19"},
		"an earlier clock":     {sign(func(s *attest.Statement) { s.Clock -= 100_000 }), w.Key, "up to the checkpoint's clock"},
		"no TTL":               {sign(func(s *attest.Statement) { delete(s.Policy, "ttl") }), w.Key, "of ttl"},
		"a TTL in words":       {sign(func(s *attest.Statement) { s.Policy["ttl"] = "long" }), w.Key, "of ttl"},
		"a TTL in another way": {sign(func(s *attest.Statement) { s.Policy["ttl"] = "60m0s" }), w.Key, "of ttl"},
		"a cap in words":       {sign(func(s *attest.Statement) { s.Policy["max_holds_per_holder"] = "many" }), w.Key, "of max_holds"},
		"a TTL of open holds":  {sign(func(s *attest.Statement) { s.Policy["ttl_open_holds"] = "1" }), w.Key, "neither true nor false"},
		"a window":             {sign(func(s *attest.Statement) { s.Policy["window"] = "1h0m0s" }), w.Key, "a window of"},
		"a changed text":       {strings.Replace(good.Checkpoint, "sequence 22", "sequence 23", 1), w.Key, "signature is wrong"},
		"no checkpoint":        {"", w.Key, "not a signed checkpoint"},
	} {
		f := *good
		f.Checkpoint = c.checkpoint
		if _, err := read(encode(t, &f), c.key); !errors.Is(err, proof.ErrRefused) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; it says %q", name, err, c.want)
		}
	}
}

func TestWitnesses(t *testing.T) {
	w := signedBusy(t)
	other := prooftest.New(t, nil)
	f := w.File("alice", false)
	if _, err := read(encode(t, f), w.Key, w.Witness); !errors.Is(err, attest.ErrOtherKey) || !errors.Is(err, proof.ErrRefused) {
		t.Errorf("not cosigned: %v", err)
	}
	cosigned, err := w.Cosigner.Cosign(w.Signed, time.Unix(1767226000, 0))
	if err != nil {
		t.Fatal(err)
	}
	f.Checkpoint = string(cosigned)
	v, err := read(encode(t, f), w.Key, w.Witness)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Witnesses) != 1 || v.Witnesses[0].Name != "witness.example.com/w1" || v.Witnesses[0].At.Unix() != 1767226000 {
		t.Errorf("witnesses: %+v", v.Witnesses)
	}
	if _, err := read(encode(t, f), w.Key); err != nil {
		t.Errorf("with a cosignature that nobody demands: %v", err)
	}
	if _, err := read(encode(t, f), w.Key, w.Witness, other.Witness); !errors.Is(err, attest.ErrOtherKey) {
		t.Errorf("another witness: %v", err)
	}
}

// The parts of a file that lie about what is proved are refused.
func TestStateRefused(t *testing.T) {
	w := signedBusy(t)
	bob := prooftest.Neighbours("alice", 1)[0]
	far := prooftest.InPartition("alice", 1)[0]
	for name, c := range map[string]struct {
		change func(f *proof.File)
		want   string
	}{
		"another holder of the slot":  {func(f *proof.File) { f.Holder = bob }, `is of "alice"`},
		"another holder":              {func(f *proof.File) { f.Holder = far }, "of slot"},
		"a holder elsewhere":          {func(f *proof.File) { f.Holder = "bob" }, "of partition"},
		"no holder":                   {func(f *proof.File) { f.Holder = "" }, "of partition"},
		"another slot":                {func(f *proof.File) { f.State.Slot++ }, "of slot"},
		"another's state":             {func(f *proof.File) { f.State = w.File(bob, false).State }, "is of"},
		"a state that was changed":    {func(f *proof.File) { f.State.Value = raised(t, f.State.Value) }, "root of states"},
		"no state":                    {func(f *proof.File) { f.State.Value = nil }, "malformed"},
		"two states":                  {func(f *proof.File) { f.State.Value = append(f.State.Value, f.State.Value...) }, "malformed"},
		"leaf 0":                      {func(f *proof.File) { f.State.Index = 0 }, "leaf 0"},
		"another leaf":                {func(f *proof.File) { f.State.Index ^= 1 }, ""},
		"a leaf behind the last":      {func(f *proof.File) { f.State.Index = f.State.Size }, "root of its slot"},
		"no slot path":                {func(f *proof.File) { f.State.SlotPath = [][]byte{} }, "root of its slot"},
		"a hash that is cut":          {func(f *proof.File) { f.State.SlotPath[0] = f.State.SlotPath[0][1:] }, "has 31 bytes"},
		"a hash that is changed":      {func(f *proof.File) { f.State.SlotPath[0][7] ^= 1 }, "root of states"},
		"a hash of states is changed": {func(f *proof.File) { f.State.StatePath[3][7] ^= 1 }, "root of states"},
		"no state path":               {func(f *proof.File) { f.State.StatePath = [][]byte{} }, "root of states"},
		"events: none":                {func(f *proof.File) { f.Events = []proof.Message{} }, "without any"},
		"events: in another order":    {func(f *proof.File) { f.Events[1], f.Events[2] = f.Events[2], f.Events[1] }, "behind the message before it"},
		"events: one twice":           {func(f *proof.File) { f.Events[1] = f.Events[0] }, "behind the message before it"},
		"events: an item left out":    {func(f *proof.File) { f.Events[0].Items = []int{1} }, "not [1]"},
		"events: an item of another":  {func(f *proof.File) { f.Events[0].Items = []int{0, 1, 2} }, "not [0 1 2]"},
		"events: items turned":        {func(f *proof.File) { f.Events[0].Items = []int{2, 1} }, "not [2 1]"},
		"events: no items":            {func(f *proof.File) { f.Events[0].Items = []int{} }, "not []"},
		"events: another body":        {func(f *proof.File) { f.Events[0].Data = f.Events[1].Data }, "root of messages"},
		"events: another time":        {func(f *proof.File) { f.Events[0].Stored++ }, "root of messages"},
		"events: before 1970":         {func(f *proof.File) { f.Events[0].Stored = -1 }, "not up to"},
		"events: another sequence":    {func(f *proof.File) { f.Events[0].Sequence++ }, "root of messages"},
		"events: another leaf":        {func(f *proof.File) { f.Events[0].Leaf++ }, ""},
		"events: no path":             {func(f *proof.File) { f.Events[0].Path = [][]byte{} }, "root of messages"},
		"events: a path is changed":   {func(f *proof.File) { f.Events[0].Path[0][0] ^= 1 }, "root of messages"},
		"events: none of the holder's": {func(f *proof.File) {
			f.Events = w.File(prooftest.InPartition("alice", 4)[3], true).Events
			f.Events[0].Items = []int{}
		}, "are [], not []"},
		"events: another's": {func(f *proof.File) { f.Events = w.File(prooftest.InPartition("alice", 4)[3], true).Events }, "are [], not [0]"},
	} {
		f, err := proof.Decode(encode(t, w.File("alice", true)))
		if err != nil {
			t.Fatal(err)
		}
		c.change(f)
		if _, err := read(encode(t, f), w.Key); !errors.Is(err, proof.ErrRefused) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; it says %q, in one line", name, err, c.want)
		}
	}
}

// raised returns a state with a higher sum, well-formed.
func raised(t *testing.T, value []byte) []byte {
	b := slices.Clone(value)
	at := bytes.Index(b, []byte("alice")) + len("alice")
	if b[at] != 0xcf {
		t.Fatalf("the sum of %x is not of 64 bits", b)
	}
	b[at+8]++
	return b
}

// A message that the fold refused whole proves no event, though it is in the log.
func TestUndecodable(t *testing.T) {
	w := signedBusy(t)
	f := w.File("alice", true)
	leaves := []merkle.Hash{}
	for _, m := range w.Messages {
		leaves = append(leaves, merkle.Message(m.Sequence, m.Time.UnixNano(), m.Data))
	}
	m := w.Messages[2]
	f.Events = []proof.Message{{Sequence: m.Sequence, Stored: m.Time.UnixNano(), Leaf: 2, Data: m.Data, Items: []int{0}, Path: proof.Path(merkle.NewTree(leaves).Inclusion(2))}}
	if _, err := read(encode(t, f), w.Key); !errors.Is(err, proof.ErrRefused) || !strings.Contains(err.Error(), "it has no events") {
		t.Errorf("a message that does not decode: %v", err)
	}
}

// A log that was signed out of order does not pass for one, in whichever order its messages are shown.
func TestOutOfOrder(t *testing.T) {
	w := signedBusy(t)
	f := w.File("alice", true)
	two, one := f.Events[0], f.Events[1]
	two.Leaf, one.Leaf = 1, 0
	tree := merkle.NewTree([]merkle.Hash{merkle.Message(one.Sequence, one.Stored, one.Data), merkle.Message(two.Sequence, two.Stored, two.Data)})
	two.Path, one.Path = proof.Path(tree.Inclusion(1)), proof.Path(tree.Inclusion(0))
	w.Sign(func(s *attest.Statement) { s.Size, s.Root = 2, tree.Root() })
	f.Checkpoint = string(w.Signed)
	for _, list := range [][]proof.Message{{one, two}, {two, one}} {
		f.Events = list
		if _, err := read(encode(t, f), w.Key); !errors.Is(err, proof.ErrRefused) || !strings.Contains(err.Error(), "behind the message before it") {
			t.Errorf("messages %d, %d: %v", list[0].Sequence, list[1].Sequence, err)
		}
		f.Events = list[:1]
		if _, err := read(encode(t, f), w.Key); err != nil {
			t.Errorf("message %d alone: %v", list[0].Sequence, err)
		}
	}
}

// Events that were left out show where the state does not follow without them; the file is verified all the same, and says so.
func TestEventsLeftOut(t *testing.T) {
	w := signedBusy(t)
	f := w.File("alice", true)
	f.Events = f.Events[1:]
	v, err := read(encode(t, f), w.Key)
	if err != nil {
		t.Fatal(err)
	}
	if v.Follows || !strings.Contains(strings.Join(v.DoesNotProve(), "\n"), "by themselves they come to another one") {
		t.Errorf("the state follows without its first message: %q", v.DoesNotProve())
	}
}

// By the policy that was signed, a holder expires, and counts in a window.
func TestPolicy(t *testing.T) {
	w := prooftest.New(t, func(p *state.Policy) { p.Score.TTL, p.Score.Window, p.Score.WindowStep = 60_000, 3_600_000, 600_000 })
	start := events.TimeOf(prooftest.Created)
	one, err := events.ParseWeight("1")
	if err != nil {
		t.Fatal(err)
	}
	w.Say(time.Second, prooftest.Envelope(events.Origin{}, events.HoldEvent{Kind: events.KindHold, Token: "gold", Holder: "alice", Start: start - 10_000, End: start, Weight: one}))
	w.Sign(nil)
	v, err := read(encode(t, w.File("alice", true)), w.Key)
	if err != nil {
		t.Fatal(err)
	}
	if r, ok, err := v.Member.At(start + 61_000); err != nil || !ok || r.Score.String() != "10" || r.RateUntil != start+61_001 {
		t.Errorf("at its last instant: %+v, %t, %v", r, ok, err)
	}
	if r, ok, err := v.Member.At(start + 61_001); err != nil || ok {
		t.Errorf("expired: %+v, %t, %v", r, ok, err)
	}
	var forgotten *score.ForgottenError
	if _, _, err := v.Member.At(start - 1); !errors.As(err, &forgotten) {
		t.Errorf("before its hold had ended: %v", err)
	}
	if !v.Follows {
		t.Error("the state does not follow")
	}
}

func TestNoHolder(t *testing.T) {
	w := signedBusy(t)
	_, err := proof.Assemble(proof.Parts{Checkpoint: w.Signed, Holder: "alice", State: make([]merkle.Hash, 257)})
	if !errors.Is(err, proof.ErrNoHolder) {
		t.Errorf("an empty slot: %v", err)
	}
}

// What is said names who, what and when, and says nothing of witnesses and events that are not there.
func TestSentences(t *testing.T) {
	w := signedBusy(t)
	cosigned, err := w.Cosigner.Cosign(w.Signed, time.Unix(1767226000, 0))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		events, witness bool
		proves, not     []string
	}{
		"alone":    {false, false, []string{"ledger.example.org has signed", "sequence 22", "2026-01-01T00:02:01.123Z"}, []string{"the file has none", "no witness was demanded"}},
		"complete": {true, true, []string{"2026-01-01T00:06:40Z", "has (9)", "(11 messages)", "come to exactly this state"}, []string{"all events of", "in league"}},
	} {
		f := w.File("alice", c.events)
		var witnesses []attest.WitnessKey
		if c.witness {
			f.Checkpoint, witnesses = string(cosigned), []attest.WitnessKey{w.Witness}
		}
		v, err := read(encode(t, f), w.Key, witnesses...)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range c.proves {
			if !strings.Contains(strings.Join(v.Proves(), "\n"), want) {
				t.Errorf("%s: %q is not among what it proves: %q", name, want, v.Proves())
			}
		}
		for _, want := range c.not {
			if !strings.Contains(strings.Join(v.DoesNotProve(), "\n"), want) {
				t.Errorf("%s: %q is not among what it does not prove: %q", name, want, v.DoesNotProve())
			}
		}
	}
}

// A byte that is changed anywhere is refused, unless it is white space, or says only how a path is added up.
func TestAnyByte(t *testing.T) {
	w := signedBusy(t)
	good := encode(t, w.File("alice", true))
	was, err := read(good, w.Key)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		b := slices.Clone(good)
		at := random.IntN(len(b))
		b[at] ^= 1 << random.IntN(8)
		v, err := read(b, w.Key)
		if err != nil {
			continue
		}
		line := string(b[bytes.LastIndexByte(b[:at], '\n')+1 : at])
		if got, want := fmt.Sprint(v.Proves(), v.Events), fmt.Sprint(was.Proves(), was.Events); got != want || !(good[at] == ' ' || good[at] == '\n' || strings.Contains(line, `"size"`) || strings.Contains(line, `"index"`)) {
			t.Errorf("byte %d, %q became %q, and it is verified: %s", at, good[at], b[at], got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	w := signedBusy(f)
	f.Add(encode(f, w.File("alice", true)))
	f.Add(encode(f, w.File("alice", false)))
	f.Add([]byte(`{"format":"holdfast-proof/1","checkpoint":"","holder":"","state":{"value":"","slot":0,"index":0,"size":0,"slot_path":[],"state_path":[]},"events":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := proof.Decode(b)
		if err != nil {
			if !errors.Is(err, proof.ErrRefused) {
				t.Fatalf("%v", err)
			}
			return
		}
		if _, err := proof.Decode(encode(t, file)); err != nil {
			t.Fatalf("what was read is not read again: %v", err)
		}
		_, _ = file.Verify(w.Key)
	})
}

func BenchmarkVerify(b *testing.B) {
	w := signedBusy(b)
	file := encode(b, w.File("alice", true))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := read(file, w.Key); err != nil {
			b.Fatal(err)
		}
	}
}
