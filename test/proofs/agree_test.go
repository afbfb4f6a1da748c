package proofs

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/internal/proof"
	"github.com/city-chain/holdfast/internal/proof/prooftest"
	"github.com/city-chain/holdfast/internal/state"
	"github.com/city-chain/holdfast/pkg/events"
	"github.com/city-chain/holdfast/pkg/score"
	"github.com/city-chain/holdfast/pkg/wire"
)

// agree expects both verifiers to say the same, and returns it.
func (p *python) agree(name string, q question) verdict {
	p.t.Helper()
	one, two := ours(q), p.verdict(q)
	if diff := cmp.Diff(one, two, cmp.AllowUnexported(verdict{}), cmpopts.IgnoreFields(verdict{}, "Reason"), cmpopts.EquateEmpty()); diff != "" {
		p.t.Errorf("%s: the verifiers differ (-ours +verify.py):\n%s\nours: %s\nverify.py: %s", name, diff, one.Reason, two.Reason)
	}
	return one
}

func encode(t testing.TB, f *proof.File) []byte {
	t.Helper()
	b, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decode returns a file that shares nothing with others.
func decode(t testing.TB, b []byte) *proof.File {
	t.Helper()
	f, err := proof.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Good files, under policies of every kind, at instants of every kind, are verified by both, with the same exact score.
func TestGoodFiles(t *testing.T) {
	p := startPython(t)
	for name, change := range map[string]func(*state.Policy){
		"default": nil,
		"window":  func(p *state.Policy) { p.Score.Window, p.Score.WindowStep = 3_600_000, 4_500 },
		"ttl":     func(p *state.Policy) { p.Score.TTL = 90_500 },
		"ttl of open holds": func(p *state.Policy) {
			p.Score.TTL, p.Score.TTLOpen = 500, true
		},
	} {
		w := prooftest.Busy(t, change)
		start := events.TimeOf(prooftest.Created)
		for _, id := range []string{"zoë/東京", "quote\" \\ back", "line\u2028\u2029\n\t\b\f\x01\x7f", "<&>"} {
			id = prooftest.Like(id)
			w.Say(130*time.Second, prooftest.Envelope(events.Origin{}, events.HoldEvent{Kind: events.KindHold, Token: "gold", Holder: id, Start: start, End: start + 1, Weight: events.MaxWeight}))
		}
		w.Sign(nil)
		cosigned, err := w.Cosigner.Cosign(w.Signed, time.Unix(1767226000, 0))
		if err != nil {
			t.Fatal(err)
		}
		proved := 0
		for _, s := range w.Folded.Slots() {
			for id := range s.Content.All() {
				proved++
				f := w.File(id, proved%2 == 0)
				q := question{file: encode(t, f), key: w.Key}
				if v := p.agree(name+", "+id, q); v.Code != 0 {
					t.Errorf("%s, %q: %s", name, id, v.Reason)
				}
				if id != "alice" {
					continue
				}
				f.Checkpoint = string(cosigned)
				q.file, q.witnesses = encode(t, f), []attest.WitnessKey{w.Witness}
				for _, at := range []events.Time{0, start, start + 60_000, start + 119_999, start + 120_000, start + 211_623, events.MaxTime} {
					q.at = &at
					p.agree(fmt.Sprintf("%s, alice at %s", name, at), q)
				}
			}
		}
		if name == "default" && proved != 14 {
			t.Errorf("%d holders were proved", proved)
		}
	}
}

// change is a way to change a file. harmless ones change nothing of what is proved: they may be verified.
type change struct {
	name     string
	change   func(f *proof.File, random *rand.Rand)
	harmless bool
}

// flip flips a bit.
func flip(b []byte, random *rand.Rand) {
	if len(b) > 0 {
		b[random.IntN(len(b))] ^= 1 << random.IntN(8)
	}
}

// signatureOf changes the bytes of a line of signature, and writes it in its one form.
func signatureOf(checkpoint string, line int, change func([]byte) []byte) string {
	lines := strings.Split(checkpoint, "\n")
	at := len(lines) - 1 - line
	name, text, _ := strings.Cut(strings.TrimPrefix(lines[at], "— "), " ")
	b, _ := base64.StdEncoding.DecodeString(text)
	lines[at] = "— " + name + " " + base64.StdEncoding.EncodeToString(change(b))
	return strings.Join(lines, "\n")
}

func changes(w *prooftest.World, foreign, later string) []change {
	near, far := prooftest.Neighbours("alice", 1)[0], prooftest.InPartition("alice", 4)
	message := func(f *proof.File, random *rand.Rand) *proof.Message { return &f.Events[random.IntN(len(f.Events))] }
	flipped := func(random *rand.Rand) func([]byte) []byte {
		return func(b []byte) []byte { flip(b, random); return b }
	}
	return []change{
		{"format", func(f *proof.File, _ *rand.Rand) { f.Format = "holdfast-proof/2" }, false},
		{"checkpoint: a character", func(f *proof.File, random *rand.Rand) {
			b := []byte(f.Checkpoint)
			at := random.IntN(len(b))
			b[at] ^= 1
			f.Checkpoint = strings.ToValidUTF8(string(b), "?")
		}, false},
		{"checkpoint: the signature", func(f *proof.File, random *rand.Rand) {
			f.Checkpoint = signatureOf(f.Checkpoint, 1, flipped(random))
		}, false},
		{"checkpoint: the signature is cut", func(f *proof.File, _ *rand.Rand) {
			f.Checkpoint = signatureOf(f.Checkpoint, 1, func(b []byte) []byte { return b[:len(b)-1] })
		}, false},
		{"checkpoint: the signature's other form", func(f *proof.File, _ *rand.Rand) { // s + L
			f.Checkpoint = signatureOf(f.Checkpoint, 1, malleable)
		}, false},
		{"checkpoint: another's", func(f *proof.File, _ *rand.Rand) { f.Checkpoint = foreign }, false},
		{"checkpoint: a later one", func(f *proof.File, _ *rand.Rand) { f.Checkpoint = later }, false},
		{"checkpoint: none", func(f *proof.File, _ *rand.Rand) { f.Checkpoint = "" }, false},
		{"checkpoint: signed twice", func(f *proof.File, _ *rand.Rand) {
			f.Checkpoint += f.Checkpoint[strings.LastIndex(f.Checkpoint, "— "):]
		}, false},
		{"checkpoint: another line of signature", func(f *proof.File, _ *rand.Rand) {
			f.Checkpoint += "— somebody.example " + base64.StdEncoding.EncodeToString(make([]byte, 68)) + "\n"
		}, true},
		{"checkpoint: a line of signature without a name", func(f *proof.File, _ *rand.Rand) { f.Checkpoint += "— \n" }, false},
		{"holder: a neighbour", func(f *proof.File, _ *rand.Rand) { f.Holder = near }, false},
		{"holder: of another slot", func(f *proof.File, _ *rand.Rand) { f.Holder = far[0] }, false},
		{"holder: of another partition", func(f *proof.File, _ *rand.Rand) { f.Holder = "bob" }, false},
		{"holder: none", func(f *proof.File, _ *rand.Rand) { f.Holder = "" }, false},
		{"value: a bit", func(f *proof.File, random *rand.Rand) { flip(f.State.Value, random) }, false},
		{"value: cut", func(f *proof.File, _ *rand.Rand) { f.State.Value = f.State.Value[:len(f.State.Value)-1] }, false},
		{"value: more", func(f *proof.File, _ *rand.Rand) { f.State.Value = append(f.State.Value, 0xc0) }, false},
		{"value: none", func(f *proof.File, _ *rand.Rand) { f.State.Value = []byte{} }, false},
		{"value: a neighbour's", func(f *proof.File, _ *rand.Rand) { f.State = w.File(near, false).State }, false},
		{"value: one's of another slot", func(f *proof.File, _ *rand.Rand) { f.State = w.File(far[0], false).State }, false},
		{"slot", func(f *proof.File, random *rand.Rand) { f.State.Slot ^= 1 << random.IntN(9) }, false},
		{"slot: below 0", func(f *proof.File, _ *rand.Rand) { f.State.Slot = -1 }, false},
		{"index", func(f *proof.File, random *rand.Rand) { f.State.Index ^= 1 << random.IntN(3) }, true},
		{"index: 0", func(f *proof.File, _ *rand.Rand) { f.State.Index = 0 }, false},
		{"size", func(f *proof.File, random *rand.Rand) { f.State.Size ^= 1 << random.IntN(5) }, true},
		{"size: 0", func(f *proof.File, _ *rand.Rand) { f.State.Size = 0 }, false},
		{"slot path: a bit", func(f *proof.File, random *rand.Rand) {
			flip(f.State.SlotPath[random.IntN(len(f.State.SlotPath))], random)
		}, false},
		{"slot path: one more", func(f *proof.File, _ *rand.Rand) {
			f.State.SlotPath = append(f.State.SlotPath, f.State.SlotPath[0])
		}, false},
		{"slot path: one less", func(f *proof.File, _ *rand.Rand) { f.State.SlotPath = f.State.SlotPath[1:] }, false},
		{"slot path: a hash is cut", func(f *proof.File, _ *rand.Rand) { f.State.SlotPath[0] = f.State.SlotPath[0][:31] }, false},
		{"slot path: turned", func(f *proof.File, _ *rand.Rand) { slices.Reverse(f.State.SlotPath) }, false},
		{"slot path: null", func(f *proof.File, _ *rand.Rand) { f.State.SlotPath = nil }, false},
		{"state path: a bit", func(f *proof.File, random *rand.Rand) {
			flip(f.State.StatePath[random.IntN(len(f.State.StatePath))], random)
		}, false},
		{"state path: one more", func(f *proof.File, _ *rand.Rand) {
			f.State.StatePath = append(f.State.StatePath, f.State.StatePath[0])
		}, false},
		{"state path: one less", func(f *proof.File, _ *rand.Rand) { f.State.StatePath = f.State.StatePath[1:] }, false},
		{"state path: that of the slot", func(f *proof.File, _ *rand.Rand) { f.State.StatePath = f.State.SlotPath }, false},
		{"events: taken away", func(f *proof.File, _ *rand.Rand) { f.Events = nil }, true},
		{"events: an empty list", func(f *proof.File, _ *rand.Rand) { f.Events = []proof.Message{} }, false},
		{"events: a message left out", func(f *proof.File, random *rand.Rand) {
			at := random.IntN(len(f.Events))
			f.Events = slices.Delete(f.Events, at, at+1)
		}, true}, // that they are all is not proved, and said so
		{"events: a message twice", func(f *proof.File, _ *rand.Rand) { f.Events[1] = f.Events[0] }, false},
		{"events: turned", func(f *proof.File, _ *rand.Rand) { slices.Reverse(f.Events) }, false},
		{"events: another's", func(f *proof.File, _ *rand.Rand) { f.Events = w.File(far[3], true).Events }, false},
		{"message: data", func(f *proof.File, random *rand.Rand) { flip(message(f, random).Data, random) }, false},
		{"message: data is cut", func(f *proof.File, random *rand.Rand) {
			m := message(f, random)
			m.Data = m.Data[:len(m.Data)-1]
		}, false},
		{"message: no data", func(f *proof.File, random *rand.Rand) { message(f, random).Data = []byte{} }, false},
		{"message: sequence", func(f *proof.File, random *rand.Rand) { message(f, random).Sequence ^= 1 << random.IntN(64) }, false},
		{"message: stored", func(f *proof.File, random *rand.Rand) { message(f, random).Stored ^= 1 << random.IntN(64) }, false},
		{"message: leaf", func(f *proof.File, random *rand.Rand) { message(f, random).Leaf ^= 1 << random.IntN(64) }, false},
		{"message: a path's bit", func(f *proof.File, random *rand.Rand) {
			m := message(f, random)
			flip(m.Path[random.IntN(len(m.Path))], random)
		}, false},
		{"message: one hash less", func(f *proof.File, random *rand.Rand) { m := message(f, random); m.Path = m.Path[1:] }, false},
		{"message: one hash more", func(f *proof.File, random *rand.Rand) {
			m := message(f, random)
			m.Path = append(m.Path, m.Path[0])
		}, false},
		{"items: one dropped", func(f *proof.File, random *rand.Rand) { m := message(f, random); m.Items = m.Items[1:] }, false},
		{"items: one more", func(f *proof.File, random *rand.Rand) { m := message(f, random); m.Items = append(m.Items, 9) }, false},
		{"items: another", func(f *proof.File, random *rand.Rand) { message(f, random).Items[0] ^= 1 }, false},
		{"items: below 0", func(f *proof.File, random *rand.Rand) { message(f, random).Items[0] = -1 }, false},
		{"items: null", func(f *proof.File, random *rand.Rand) { message(f, random).Items = nil }, false},
	}
}

// malleable adds the order of the group to the second half of a signature, which some verifiers take for the same.
func malleable(b []byte) []byte {
	order, _ := hex.DecodeString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	carry := 0
	for i := range order {
		sum := int(b[4+32+i]) + int(order[i]) + carry
		b[4+32+i], carry = byte(sum), sum>>8
	}
	return b
}

// Every way to change a file is refused by both verifiers, unless it changes nothing of what is proved: then both may verify it, and say the same.
func TestChangedFiles(t *testing.T) {
	p := startPython(t)
	w := prooftest.Busy(t, nil)
	w.Sign(nil)
	good := encode(t, w.File("alice", true))
	was := p.agree("good", question{file: good, key: w.Key})
	if was.Code != 0 {
		t.Fatal(was.Reason)
	}
	other := prooftest.Busy(t, nil)
	other.Sign(nil)
	if v := p.agree("another key", question{file: good, key: other.Key}); v.Code != 1 {
		t.Errorf("another key: %+v", v)
	}
	if v := p.agree("a witness that has not cosigned", question{file: good, key: w.Key, witnesses: []attest.WitnessKey{w.Witness}}); v.Code != 1 {
		t.Errorf("a witness that has not cosigned: %+v", v)
	}
	w.Say(200*time.Second, []byte(`{"token_id":"gold","holder_id":"alice","start":1767225700,"weight":1}`))
	w.Sign(nil)
	for name, changed := range prooftest.OtherForms(string(good)) {
		if v := p.agree(name, question{file: []byte(changed), key: w.Key}); v.Code != 1 {
			t.Errorf("%s: %+v", name, v)
		}
	}
	random := rand.New(rand.NewPCG(3, 4))
	for _, c := range changes(w, string(other.Signed), string(w.Signed)) {
		for i := range 4 {
			f := decode(t, good)
			c.change(f, random)
			b := encode(t, f)
			v := p.agree(fmt.Sprintf("%s, %d", c.name, i), question{file: b, key: w.Key})
			if v.Code == 1 || string(b) == string(good) {
				continue
			}
			v.Events, was.Events = nil, nil
			if diff := cmp.Diff(was, v, cmp.AllowUnexported(verdict{})); diff != "" || !c.harmless {
				t.Errorf("%s, %d: a changed file is verified: %+v\n%s", c.name, i, v, diff)
			}
		}
	}
}

// Bits flipped at random, and files cut anywhere.
func TestRandomlyChangedFiles(t *testing.T) {
	p := startPython(t)
	w := prooftest.Busy(t, nil)
	w.Sign(nil)
	cosigned, err := w.Cosigner.Cosign(w.Signed, time.Unix(1767226000, 0))
	if err != nil {
		t.Fatal(err)
	}
	f := w.File("alice", true)
	f.Checkpoint = string(cosigned)
	good := encode(t, f)
	q := question{file: good, key: w.Key, witnesses: []attest.WitnessKey{w.Witness}}
	was := p.agree("good", q)
	if was.Code != 0 {
		t.Fatal(was.Reason)
	}
	random := rand.New(rand.NewPCG(5, 6))
	refused := 0
	for i := range 200 {
		q.file = slices.Clone(good)
		if i%10 == 0 {
			q.file = q.file[:random.IntN(len(q.file)-1)]
		} else {
			flip(q.file, random)
		}
		v := p.agree(fmt.Sprint("file ", i), q)
		if v.Code == 1 {
			refused++
		} else if diff := cmp.Diff(was, v, cmp.AllowUnexported(verdict{})); diff != "" {
			t.Errorf("file %d: what it says was changed, and it is verified:\n%s", i, diff)
		}
	}
	if refused < 180 {
		t.Errorf("%d of 200 changed files were refused", refused)
	}
}

// Both read the same holders in a message, whatever its form and whatever is wrong with it.
func TestMessages(t *testing.T) {
	p := startPython(t)
	bodies := [][]byte{
		nil, []byte("{}"), []byte("null"), []byte("[]"), {0x80}, {0x90}, {0xc1},
	}
	for _, text := range []string{
		`{"token_id":"t","holder_id":"h","start":1,"weight":1}`,
		`{"kind":"hold","token_id":"t","holder_id":"h","hold_id":"i","start":"1","end":2.5,"weight":"1e-9","rev":3,"v":1}`,
		`{"kind":"release","token_id":"t","holder_id":"h","end":"2026-01-01T00:00:00.123456789+23:59"}`,
		`{"kind":"balance","token_id":"t","holder_id":"h","at":0,"weight":0}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":1,"end":null,"hold_id":null}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":1,"end":0}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":1,"hold_id":""}`,
		`{"token_id":"t","holder_id":"","start":1,"weight":1}`,
		`{"token_id":"t","holder_id":5,"start":1,"weight":1}`,
		`{"token_id":"t","holder_id":"h","start":true,"weight":1}`,
		`{"token_id":"t","holder_id":"h","start":-0,"weight":-0.0e9}`,
		`{"token_id":"t","holder_id":"h","start":-1,"weight":1}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":1e-10}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":1e99999999999}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":0e99999999999}`,
		`{"token_id":"t","holder_id":"h","start":1e-99999,"weight":79228162514264337593543950336}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":79228162514264337593543950336.000000001}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":".5"}`, `{"token_id":"t","holder_id":"h","start":1,"weight":"5."}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":"."}`, `{"token_id":"t","holder_id":"h","start":1,"weight":"+1"}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":" 1"}`, `{"token_id":"t","holder_id":"h","start":1,"weight":"١"}`,
		`{"token_id":"t","holder_id":"h","start":253402300799.9999,"weight":1}`, `{"token_id":"t","holder_id":"h","start":253402300800,"weight":1}`,
		`{"token_id":"t","holder_id":"h","start":"2024-02-29T00:00:00Z","weight":1}`, `{"token_id":"t","holder_id":"h","start":"2023-02-29T00:00:00Z","weight":1}`,
		`{"token_id":"t","holder_id":"h","start":"2024-01-01T24:00:00Z","weight":1}`, `{"token_id":"t","holder_id":"h","start":"2024-01-01T00:00:60Z","weight":1}`,
		`{"token_id":"t","holder_id":"h","start":"1970-01-01T00:00:00+00:01","weight":1}`, `{"token_id":"t","holder_id":"h","start":"9999-12-31T23:59:59.9999Z","weight":1}`,
		`{"token_id":"t","holder_id":"h","start":"2024-01-01t00:00:00z","weight":1}`, `{"token_id":"t","holder_id":"h","start":"0000-01-01T00:00:00Z","weight":1}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":1,"rev":1}`, `{"token_id":"t","holder_id":"h","start":1,"weight":1,"rev":0}`,
		`{"token_id":"t","holder_id":"h","hold_id":"i","start":1,"weight":1,"rev":4294967296}`, `{"token_id":"t","holder_id":"h","hold_id":"i","start":1,"weight":1,"rev":1.5}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":1,"end":1,"more":1}`, `{"token_id":"t","holder_id":"h","start":1,"weight":1,"more":null}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":1,"weight":1}`, `{"token_id":"t","holder_id":"h","start":1,"weight":[1]}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":{}}`, `{"token_id":"t","holder_id":"h","start":1,"weight":NaN}`,
		`{"token_id":"t","holder_id":"h","start":01,"weight":1}`, `{"token_id":"t","holder_id":"h","start":1,"weight":1,}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":1} x`, ` {"token_id":"t","holder_id":"h","start":1,"weight":1} `,
		`{"token_id":"t","holder_id":"\ud83d\ude00","start":1,"weight":1}`, `{"token_id":"t","holder_id":"\ud83d","start":1,"weight":1}`,
		`{"token_id":"t","holder_id":"\\ud83d","start":1,"weight":1}`, `{"token_id":"t","holder_id":"e\u0301","start":1,"weight":1}`,
		`{"token_id":"t","holder_id":"\u00e9\u0000","start":1,"weight":1}`, "{\"token_id\":\"t\",\"holder_id\":\"\x01\",\"start\":1,\"weight\":1}",
		"{\"token_id\":\"t\",\"holder_id\":\"\xff\",\"start\":1,\"weight\":1}", `{"token_id":"` + strings.Repeat("x", 129) + `","holder_id":"h","start":1,"weight":1}`,
		`{"token_id":"t","holder_id":"h","start":1,"weight":1,"v":1.0}`, `{"token_id":"t","holder_id":"h","start":1,"weight":1,"v":"1"}`, `{"token_id":"t","holder_id":"h","start":1,"weight":1,"v":2}`,
		`{"kind":"poh.issued","node":"n","result":"success","latency":1}`, `{"kind":"release","token_id":"t","holder_id":"h","end":1,"weight":1}`,
		`{"token_id":"t","holder_id":"h","start":2,"end":1,"weight":1}`, strings.Repeat(`{"a":`, 5000),
	} {
		bodies = append(bodies, []byte(text))
	}
	for _, m := range prooftest.Busy(t, nil).Messages {
		bodies = append(bodies, m.Data)
	}
	random := rand.New(rand.NewPCG(7, 8))
	seeds := len(bodies)
	for range 3000 {
		b := slices.Clone(bodies[random.IntN(seeds)])
		for range 1 + random.IntN(2) {
			flip(b, random)
		}
		bodies = append(bodies, b)
	}
	read := 0
	for _, b := range bodies {
		var answer struct{ Holders []string }
		p.ask(map[string]string{"holders": hex.EncodeToString(b)}, &answer)
		_, list, err := events.DecodeHolds(b, nil)
		var want []string
		for _, e := range list {
			want = append(want, hex.EncodeToString([]byte(e.Holder)))
		}
		if diff := cmp.Diff(want, answer.Holders); diff != "" {
			t.Errorf("holders of %q (-ours +verify.py), %v:\n%s", b, err, diff)
		}
		if err == nil {
			read++
		}
	}
	if read < 100 || read > len(bodies)-100 {
		t.Errorf("%d of %d bodies are messages: that tries only one side", read, len(bodies))
	}
}

// Both add up the same roots, of trees of every size, and find the same paths to be none.
func TestRoots(t *testing.T) {
	p := startPython(t)
	var leaves []merkle.Hash
	for i := range 33 {
		leaves = append(leaves, merkle.Leaf([]byte{byte(i)}))
		tree := merkle.NewTree(slices.Clone(leaves))
		for j := range leaves {
			path := tree.Inclusion(j)
			for _, c := range []struct {
				index, size int
				path        []merkle.Hash
			}{{j, i + 1, path}, {j, i + 2, path}, {j + 1, i + 1, path}, {j, i + 1, append(path, leaves[0])}, {j, i + 1, path[min(len(path), 1):]}} {
				asked := map[string]any{"leaf": hex.EncodeToString(leaves[j][:]), "index": c.index, "size": c.size}
				var hexes []string
				for _, h := range c.path {
					hexes = append(hexes, hex.EncodeToString(h[:]))
				}
				asked["path"] = append([]string{}, hexes...)
				var answer struct{ Root *string }
				p.ask(asked, &answer)
				root, err := merkle.RootOf(leaves[j], uint64(c.index), uint64(c.size), c.path)
				if (err == nil) != (answer.Root != nil) || err == nil && *answer.Root != hex.EncodeToString(root[:]) {
					t.Fatalf("leaf %d of %d by %d hashes: %x, %v; verify.py says %v", c.index, c.size, len(c.path), root, err, answer.Root)
				}
				if c.index == j && c.size == i+1 && len(c.path) == len(path) && (err != nil || root != tree.Root()) {
					t.Fatalf("leaf %d of %d: %x, %v", j, i+1, root, err)
				}
			}
		}
	}
}

// Both read the same states, whatever is wrong with their bytes, and the same scores in them.
func TestStates(t *testing.T) {
	p := startPython(t)
	random := rand.New(rand.NewPCG(9, 10))
	known, unknown := 0, 0
	for _, change := range []func(*state.Policy){
		nil,
		func(p *state.Policy) { p.Score.Window, p.Score.WindowStep = 3_600_000, 600_000 },
		func(p *state.Policy) { p.Score.TTL, p.Score.TTLOpen = 90_500, true },
	} {
		w := prooftest.Busy(t, change)
		w.Sign(nil)
		good := w.File("alice", false).State.Value
		for i := range 700 {
			value := slices.Clone(good)
			if i > 0 {
				flip(value, random)
			}
			at := events.TimeOf(prooftest.Created) + events.Time(random.IntN(300_000))
			var answer struct {
				Known       bool
				Score, Rate *string
			}
			p.ask(map[string]any{"member": hex.EncodeToString(value), "policy": w.Policy.Map(), "at": at}, &answer)
			r := wire.NewReader("\x93\x00\x91\x00\x91" + string(value)) // the only holder of a slot
			table := score.DecodeTable(&w.Policy.Score, &r)
			err := r.Close()
			if (err == nil) != answer.Known {
				t.Fatalf("%x: %v; verify.py knows it: %t", value, err, answer.Known)
			}
			if err != nil {
				unknown++
				continue
			}
			known++
			reading, ok := table.At(0, at)
			if ok != (answer.Score != nil) || ok && (reading.Score.String() != *answer.Score || reading.Rate.String() != *answer.Rate) {
				t.Fatalf("%x at %s: %+v, %t; verify.py says %v", value, at, reading, ok, answer.Score)
			}
		}
	}
	if known < 100 || unknown < 100 {
		t.Errorf("%d states and %d others: that tries only one side", known, unknown)
	}
}

// The command's exit codes; one of each by a process of its own.
func TestExitCodes(t *testing.T) {
	p := startPython(t)
	w := prooftest.Busy(t, nil)
	w.Sign(nil)
	dir := t.TempDir()
	path := dir + "/alice.proof"
	write(t, path, encode(t, w.File("alice", false)))
	write(t, dir+"/key.pub", []byte(w.Key.String()+"\n"))
	other := prooftest.New(t, nil)
	for name, c := range map[string]struct {
		arguments []string
		code      int
		said      string
	}{
		"a key":               {[]string{path, "--key", w.Key.String()}, 0, "verified: ledger.example.org"},
		"a key's file":        {[]string{path, "--key", dir + "/key.pub"}, 0, "verified"},
		"another key":         {[]string{path, "--key", other.Key.String()}, 1, "not verified"},
		"no key":              {[]string{path}, 2, "--key"},
		"a key's file is not": {[]string{path, "--key", dir + "/none.pub"}, 2, "could not tell"},
		"no key in it":        {[]string{path, "--key", path}, 2, "could not tell"},
		"a witness's key":     {[]string{path, "--key", w.Witness.String()}, 2, "could not tell"},
		"a file is not":       {[]string{dir + "/none", "--key", w.Key.String()}, 2, "could not tell"},
		"another file":        {[]string{dir + "/key.pub", "--key", w.Key.String()}, 1, "not verified"},
		"before it is known":  {[]string{path, "--key", w.Key.String(), "--at", "0"}, 2, "could not tell"},
		"no instant":          {[]string{path, "--key", w.Key.String(), "--at", "noon"}, 2, "could not tell"},
	} {
		var answer struct {
			Code     int
			Out, Err string
		}
		p.ask(map[string]any{"verify": c.arguments}, &answer)
		if out := answer.Out + answer.Err; answer.Code != c.code || !strings.Contains(out, c.said) {
			t.Errorf("%s: exit code %d and %q; it is %d and says %q", name, answer.Code, out, c.code, c.said)
		}
	}
	for code, arguments := range [][]string{{path, "--key", w.Key.String()}, {path, "--key", other.Key.String()}, {path, "--key", path}} {
		c := exec.Command("python3", append([]string{"../../examples/verify/verify.py"}, arguments...)...)
		if _ = c.Run(); c.ProcessState.ExitCode() != code {
			t.Errorf("%q: exit code %d; it is %d", arguments, c.ProcessState.ExitCode(), code)
		}
	}
}

// The verifier's own tests: the signatures of RFC 8032.
func TestItsOwn(t *testing.T) {
	startPython(t)
	c := exec.Command("python3", "-B", "-m", "unittest", "-v")
	c.Dir = "../../examples/verify"
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "OK") {
		t.Errorf("%v\n%s", err, out)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
