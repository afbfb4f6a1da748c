package attest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/pkg/events"
)

func statement() *Statement {
	return &Statement{
		Name: "ledger.example.org", Stream: "HOLDS", Created: 1767225600123456789, Partition: 3,
		Size: 1234, Root: merkle.Leaf([]byte("messages")), Sequence: 20345, Clock: 1767225612345, State: merkle.Leaf([]byte("state")),
		Policy: map[string]string{"ttl": "0s", "max_holds_per_holder": "1000", "ttl_open_holds": "false"},
	}
}

const text = `ledger.example.org/HOLDS/1767225600123456789/3
1234
wxZYZMrrHiWSwYeRAUjLw4EXrDFQwA1bIqL1ndemSpA=
sequence 20345
clock 1767225612345
state 7YylNl0Ilf72AzGqmgj4Cw9cjkhSEJ6pxjvIpwXbb+I=
policy max_holds_per_holder=1000 ttl=0s ttl_open_holds=false
`

func TestText(t *testing.T) {
	if diff := cmp.Diff(text, statement().Text()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	got, err := ParseStatement(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(statement(), got); diff != "" {
		t.Errorf("statement (-want +got):\n%s", diff)
	}
}

// Only what Text writes is read.
func TestParseStatementRefuses(t *testing.T) {
	for name, change := range map[string][2]string{
		"zeros in front":             {"\n1234\n", "\n01234\n"},
		"a sign":                     {"\n1234\n", "\n+1234\n"},
		"a size that is too large":   {"\n1234\n", "\n18446744073709551616\n"},
		"a size over the sequence":   {"\n1234\n", "\n20346\n"},
		"a root of no leaves":        {"\n1234\n", "\n0\n"},
		"bits behind the root":       {"mSpA=", "mSpB="},
		"a root that is cut":         {"mSpA=", "mS=="},
		"a root of two lines":        {"wxZY", "wx\rZY"},
		"another label":              {"sequence 20345", "seq 20345"},
		"two blanks":                 {"sequence 20345", "sequence  20345"},
		"a clock before 1970":        {"clock 1767225612345", "clock -1"},
		"a clock after 9999":         {"clock 1767225612345", "clock 253402300800000"},
		"no state":                   {"state 7YylNl0Ilf72AzGqmgj4Cw9cjkhSEJ6pxjvIpwXbb+I=\n", ""},
		"one more line":              {"policy ", "more\npolicy "},
		"an empty line":              {"policy ", "\npolicy "},
		"a line at the end":          {"ttl_open_holds=false\n", "ttl_open_holds=false\nmore\n"},
		"no newline at the end":      {"ttl_open_holds=false\n", "ttl_open_holds=false"},
		"a setting without a value":  {"ttl=0s", "ttl="},
		"a setting without a name":   {"ttl=0s", "=0s"},
		"a setting with two values":  {"ttl=0s", "ttl=0s=1s"},
		"settings out of order":      {"max_holds_per_holder=1000 ttl=0s", "ttl=0s max_holds_per_holder=1000"},
		"a setting that comes twice": {"ttl=0s", "ttl=0s ttl=0s"},
		"a blank at the end":         {"ttl_open_holds=false", "ttl_open_holds=false "},
		"a partition over 15":        {"789/3", "789/16"},
		"a partition under 0":        {"789/3", "789/-1"},
		"zeros before the partition": {"789/3", "789/03"},
		"a stream that was never":    {"1767225600123456789", "0"},
		"no stream":                  {"HOLDS/", "/"},
		"no name":                    {"ledger.example.org/", ""},
		"an empty name":              {"ledger.example.org/", "/"},
		"a blank in the name":        {"ledger.example.org", "ledger example.org"},
		"a plus in the name":         {"ledger.example.org", "ledger+example.org"},
		"a very long text":           {"ttl=0s", "ttl=" + strings.Repeat("0", maxText)},
	} {
		changed := strings.Replace(text, change[0], change[1], 1)
		if changed == text {
			t.Errorf("%s: nothing is changed", name)
		}
		if s, err := ParseStatement(changed); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: read as %+v, error %v", name, s, err)
		}
	}
	if _, err := ParseStatement(strings.Replace(text, " max_holds_per_holder=1000 ttl=0s ttl_open_holds=false", "", 1)); err != nil {
		t.Errorf("without a policy: %v", err)
	}
}

func drawStatement(t *rapid.T) *Statement {
	hash := func(name string) merkle.Hash {
		return merkle.Leaf(rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, name))
	}
	s := &Statement{
		Name:      rapid.SampledFrom([]string{"ledger.example.org", "example.org/ledger/1", "grüße.example"}).Draw(t, "name"),
		Stream:    rapid.SampledFrom([]string{"HOLDS", "POH"}).Draw(t, "stream"),
		Created:   rapid.Int64Min(1).Draw(t, "created"),
		Partition: rapid.IntRange(0, events.Partitions-1).Draw(t, "partition"),
		Size:      rapid.Uint64().Draw(t, "size"),
		Root:      hash("root"),
		Clock:     events.Time(rapid.Int64Range(0, int64(events.MaxTime)).Draw(t, "clock")),
		State:     hash("state"),
		Policy: rapid.MapOf(rapid.StringMatching(`[a-z_]{1,10}`), rapid.StringMatching(`[0-9a-z.]{1,10}`)).
			Draw(t, "policy"),
	}
	s.Sequence = rapid.Uint64Min(s.Size).Draw(t, "sequence")
	if s.Size == 0 {
		s.Root = merkle.Empty
	}
	return s
}

// What is signed is opened again, by its own key alone; also when witnesses have added their lines.
func TestLaw(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawStatement(t)
		signer, key := newSigner(t, s.Name)
		_, other := newSigner(t, s.Name)
		signed, err := signer.Sign(s)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := signer.Sign(s); string(again) != string(signed) {
			t.Fatal("signed twice, it differs")
		}
		cosigner, witness := newCosigner(t, "witness.example.com/w1")
		at := time.Unix(rapid.Int64Range(0, 253402300799).Draw(t, "at"), 5)
		if _, err := witness.Verify(signed); !errors.Is(err, ErrOtherKey) {
			t.Fatalf("before the witness has cosigned: %v", err)
		}
		both, err := cosigner.Cosign(signed, at.Add(-time.Second))
		if err == nil {
			both, err = cosigner.Cosign(signed, at)
		}
		if at.Unix() > 0 && err != nil {
			t.Fatal(err)
		}
		if err == nil {
			got, err := witness.Verify(both)
			if err != nil || got.Unix() != at.Unix() {
				t.Fatalf("cosigned at %d; verified: %s, %v", at.Unix(), got, err)
			}
			signed = both
		}
		got, err := key.Open(signed)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s, got); diff != "" {
			t.Fatalf("statement (-signed +opened):\n%s", diff)
		}
		if _, err := other.Open(signed); !errors.Is(err, ErrOtherKey) {
			t.Fatalf("another key opens it: %v", err)
		}
		// Any bit that is changed is seen by one of both.
		i := rapid.IntRange(0, len(signed)-1).Draw(t, "byte")
		signed[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		_, err1 := key.Open(signed)
		_, err2 := witness.Verify(signed)
		if err1 == nil && (err2 == nil || len(both) == 0) {
			t.Fatalf("byte %d was changed, and nobody sees it:\n%q", i, signed)
		}
	})
}

type tester interface {
	Helper()
	Fatal(...any)
}

func newSigner(t tester, name string) (*Signer, Key) {
	t.Helper()
	secret, public, err := GenerateKey(name)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := NewSigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(public)
	if err != nil {
		t.Fatal(err)
	}
	if signer.Public() != public || key.String() != public || signer.Name() != name || key.Name() != name {
		t.Fatal("the key is not the one that was made")
	}
	return signer, key
}

func newCosigner(t tester, name string) (*Cosigner, WitnessKey) {
	t.Helper()
	secret, public, err := GenerateWitnessKey(name)
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := NewCosigner(secret)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseWitnessKey(public)
	if err != nil {
		t.Fatal(err)
	}
	if cosigner.Public() != public || key.String() != public || cosigner.Name() != name || key.Name() != name {
		t.Fatal("the key is not the one that was made")
	}
	return cosigner, key
}

// The key, and the signed text, of the documentation and tests of golang.org/x/mod/sumdb/note.
func TestPublishedNote(t *testing.T) {
	const (
		secretKey = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
		publicKey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
		message   = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
		signature = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
	)
	key, err := ParseKey(publicKey)
	if err != nil {
		t.Fatal(err)
	}
	l := lineOf(key.name, typeLog, key.key)
	l.verify = func(text, signature []byte) bool { return ed25519.Verify(key.key, text, signature) }
	if _, err := verify([]byte(message+"\n"+signature), l); err != nil {
		t.Error(err)
	}
	if got, err := PublicOf(secretKey); err != nil || got != publicKey {
		t.Errorf("the secret's public key is %s, %v", got, err)
	}
}

// Signature lines, made here from what the specifications say alone.
func TestLines(t *testing.T) {
	seed := sha256.Sum256([]byte("seed"))
	private := ed25519.NewKeyFromSeed(seed[:])
	public := private.Public().(ed25519.PublicKey)
	id := func(name string, kind byte) []byte {
		sum := sha256.Sum256(append([]byte(name+"\n"+string(rune(kind))), public...))
		return sum[:4]
	}
	encoded := func(name string, kind byte, b []byte) string {
		return fmt.Sprintf("%s+%x+%s", name, id(name, kind), base64.StdEncoding.EncodeToString(append([]byte{kind}, b...)))
	}
	const name = "ledger.example.org"
	signer, err := NewSigner("PRIVATE+KEY+" + encoded(name, 1, seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := signer.Public(), encoded(name, 1, public); got != want {
		t.Errorf("public key %s; it is %s", got, want)
	}
	st := statement()
	st.Name = ""
	signed, err := signer.Sign(st)
	if err != nil {
		t.Fatal(err)
	}
	origin := name + "/HOLDS/1767225600123456789/3"
	want := text + "\n— " + origin + " " + base64.StdEncoding.EncodeToString(append(id(origin, 1), ed25519.Sign(private, []byte(text))...)) + "\n"
	if diff := cmp.Diff(want, string(signed)); diff != "" {
		t.Errorf("signed (-want +got):\n%s", diff)
	}
	page, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{string(signed), signer.Public()} {
		if !strings.Contains(string(page), shown) {
			t.Errorf("docs/audit.md does not show\n%s", shown)
		}
	}

	const witness = "witness.example.com/w1"
	cosigner, err := NewCosigner("PRIVATE+KEY+" + encoded(witness, 4, seed[:]))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := cosigner.Public(), encoded(witness, 4, public); got != want {
		t.Errorf("witness's public key %s; it is %s", got, want)
	}
	cosigned, err := cosigner.Cosign(signed, time.Unix(1679315147, 0))
	if err != nil {
		t.Fatal(err)
	}
	bytes := append(id(witness, 4), 0, 0, 0, 0, 0x64, 0x18, 0x50, 0xcb)
	bytes = append(bytes, ed25519.Sign(private, []byte("cosignature/v1\ntime 1679315147\n"+text))...)
	want += "— " + witness + " " + base64.StdEncoding.EncodeToString(bytes) + "\n"
	if diff := cmp.Diff(want, string(cosigned)); diff != "" {
		t.Errorf("cosigned (-want +got):\n%s", diff)
	}
}

func TestOpenRefuses(t *testing.T) {
	signer, key := newSigner(t, "ledger.example.org")
	_, named := newSigner(t, "other.example.org")
	stranger, _ := newSigner(t, "ledger.example.org")
	signed, err := signer.Sign(statement())
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := stranger.Sign(statement())
	if err != nil {
		t.Fatal(err)
	}
	line := string(signed[len(text)+1:])
	moved := statement()
	moved.Partition = 4
	elsewhere, err := signer.Sign(moved)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key    Key
		signed string
		want   error
	}{
		"another name":                 {named, string(signed), ErrOtherKey},
		"another key":                  {key, string(foreign), ErrOtherKey},
		"another's signature":          {key, strings.Replace(string(signed), "1234\n", "1235\n", 1), ErrSignature},
		"another partition's":          {key, text + "\n" + string(elsewhere[len(text)+1:]), ErrOtherKey},
		"no signature":                 {key, text, ErrMalformed},
		"no lines of signature":        {key, text + "\n", ErrMalformed},
		"cut":                          {key, string(signed[:len(signed)-1]), ErrMalformed},
		"more":                         {key, string(signed) + "x", ErrMalformed},
		"an empty line":                {key, string(signed) + "\n", ErrMalformed},
		"the same line twice":          {key, string(signed) + line, ErrMalformed},
		"bits behind the signature":    {key, string(signed[:len(signed)-3]) + "B=\n", ErrMalformed},
		"a signature that is too long": {key, text + "\n" + strings.Replace(line, "=\n", "\n", 1), ErrMalformed},
		"a blank in front":             {key, " " + string(signed), ErrMalformed},
		"another text":                 {key, "hello\n\n" + line, ErrMalformed},
		"nothing":                      {key, "", ErrMalformed},
		"too much":                     {key, string(signed) + strings.Repeat(line, 1+maxSigned/len(line)), ErrMalformed},
	} {
		if st, err := c.key.Open([]byte(c.signed)); !errors.Is(err, c.want) {
			t.Errorf("%s: %+v, error %v; it is %v", name, st, err, c.want)
		}
	}
}

// What is left of a checkpoint is as the signer has written it, and a cosignature that does not fit is not given.
func TestAlone(t *testing.T) {
	signer, key := newSigner(t, "ledger.example.org")
	_, other := newSigner(t, "ledger.example.org")
	cosigner, _ := newCosigner(t, "witness.example.org")
	want, err := signer.Sign(statement())
	if err != nil {
		t.Fatal(err)
	}
	signed := string(want)
	for i := range 99 {
		if got, err := key.Alone([]byte(signed)); err != nil || string(got) != string(want) {
			t.Fatalf("with %d lines: %q, %v", i, got, err)
		}
		if _, err := cosigner.Cosign([]byte(signed), time.Unix(1767225600, 0)); err != nil {
			t.Fatalf("cosign with %d lines: %v", i, err)
		}
		signed += fmt.Sprintf("— other%d %s\n", i, base64.StdEncoding.EncodeToString(make([]byte, 68)))
	}
	if got, err := key.Alone([]byte(signed)); err != nil || string(got) != string(want) {
		t.Errorf("with 99 lines: %q, %v", got, err)
	}
	if got, err := cosigner.Cosign([]byte(signed), time.Unix(1767225600, 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a cosignature for which there is no room: %q, %v", got, err)
	}
	if got, err := other.Alone(want); !errors.Is(err, ErrOtherKey) {
		t.Errorf("by another key: %q, %v", got, err)
	}
}

func TestSignRefuses(t *testing.T) {
	signer, _ := newSigner(t, "ledger.example.org")
	for name, change := range map[string]func(*Statement){
		"another name":     func(s *Statement) { s.Name = "other.example.org" },
		"a line in it":     func(s *Statement) { s.Policy = map[string]string{"ttl": "0s\nmore=1"} },
		"no stream":        func(s *Statement) { s.Stream = "" },
		"more than folded": func(s *Statement) { s.Size = s.Sequence + 1 },
	} {
		st := statement()
		change(st)
		if signed, err := signer.Sign(st); err == nil {
			t.Errorf("%s is signed:\n%s", name, signed)
		}
	}
	cosigner, _ := newCosigner(t, "w")
	signed, err := signer.Sign(statement())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		signed string
		at     time.Time
	}{
		"no checkpoint": {"hello\n" + string(signed[len(text):]), time.Unix(1, 0)},
		"no signature":  {text, time.Unix(1, 0)},
		"before 1970":   {string(signed), time.Unix(-1, 0)},
		"after 9999":    {string(signed), time.Unix(253402300800, 0)},
	} {
		if cosigned, err := cosigner.Cosign([]byte(c.signed), c.at); err == nil {
			t.Errorf("%s is cosigned:\n%s", name, cosigned)
		}
	}
}

// A time that was changed is seen: it is signed, too.
func TestVerifyRefuses(t *testing.T) {
	signer, _ := newSigner(t, "ledger.example.org")
	cosigner, key := newCosigner(t, "w")
	_, other := newCosigner(t, "w")
	signed, err := signer.Sign(statement())
	if err != nil {
		t.Fatal(err)
	}
	both, err := cosigner.Cosign(signed, time.Unix(1679315147, 0))
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(both), "— w ") + len("— w ")
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(string(both[at:]), "\n"))
	if err != nil {
		t.Fatal(err)
	}
	with := func(raw []byte) string { return string(both[:at]) + base64.StdEncoding.EncodeToString(raw) + "\n" }
	later, far := append([]byte(nil), raw...), append([]byte(nil), raw...)
	later[11]++
	far[4] = 0xff
	for name, c := range map[string]struct {
		key    WitnessKey
		signed string
		want   error
	}{
		"another key":        {other, string(both), ErrOtherKey},
		"not cosigned":       {key, string(signed), ErrOtherKey},
		"another time":       {key, with(later), ErrSignature},
		"after all time":     {key, with(far), ErrSignature},
		"no time":            {key, with(append(raw[:4:4], raw[12:]...)), ErrSignature},
		"another text":       {key, strings.Replace(string(both), "1234\n", "1235\n", 1), ErrSignature},
		"no checkpoint":      {key, "hello", ErrMalformed},
		"bits behind it":     {key, string(both[:len(both)-2]) + "x\n", ErrMalformed},
		"as a log's own key": {key, string(signed) + strings.Replace(string(signed[len(text)+1:]), "ledger.example.org/HOLDS/1767225600123456789/3", "w", 1), ErrOtherKey},
	} {
		if at, err := c.key.Verify([]byte(c.signed)); !errors.Is(err, c.want) {
			t.Errorf("%s: %s, error %v; it is %v", name, at, err, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"ledger.example.org": true, "example.org/ledger": true, "a": true, "grüße.example": true, strings.Repeat("a", maxName): true,
		"": false, "a b": false, "a+b": false, "a\u00a0b": false, "a\nb": false, "a\x01b": false, "a\u200bb": false, "\xff": false,
		"https://example.org": false, "/a": false, "a/": false, "a//b": false, strings.Repeat("a", maxName+1): false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
		if _, _, err := GenerateKey(name); (err == nil) != ok {
			t.Errorf("make a key %q: %v", name, err)
		}
	}
}

// A key is read in its one form, by what is of its type, and what is said of a secret key never shows it.
func TestKeysRefuse(t *testing.T) {
	secret, public, err := GenerateKey("ledger.example.org")
	if err != nil {
		t.Fatal(err)
	}
	witnessSecret, witnessPublic, err := GenerateWitnessKey("witness.example.com")
	if err != nil {
		t.Fatal(err)
	}
	readers := map[string]func(string) error{
		"signer":   func(s string) error { _, err := NewSigner(s); return err },
		"key":      func(s string) error { _, err := ParseKey(s); return err },
		"cosigner": func(s string) error { _, err := NewCosigner(s); return err },
		"witness":  func(s string) error { _, err := ParseWitnessKey(s); return err },
	}
	own := map[string]string{"signer": secret, "key": public, "cosigner": witnessSecret, "witness": witnessPublic}
	for name, read := range readers {
		if err := read(own[name]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for other, text := range own {
			if name != other {
				refused(t, name+" of the "+other, text, read)
			}
		}
		text := own[name]
		at := strings.LastIndex(text, "+")
		for change, text := range map[string]string{
			"nothing": "", "cut": text[:len(text)-1], "a blank": text + " ", "a newline": text + "\n",
			"another name": strings.Replace(text, "example", "exomple", 1), "another id": text[:at-1] + "g" + text[at:], "upper case": strings.ToUpper(text),
		} {
			refused(t, name+", "+change, text, read)
		}
	}
	for key, public := range map[string]string{secret: public, witnessSecret: witnessPublic, public: public, witnessPublic: witnessPublic} {
		if got, err := PublicOf(key); err != nil || got != public {
			t.Errorf("the public key: %s, %v; it is %s", got, err, public)
		}
	}
	refused(t, "public of a secret that is cut", secret[:len(secret)-1], func(s string) error { _, err := PublicOf(s); return err })
}

func refused(t *testing.T, what, text string, read func(string) error) {
	t.Helper()
	err := read(text)
	switch {
	case err == nil:
		t.Errorf("%s is read: %q", what, text)
	case strings.HasPrefix(text, secretPrefix) && strings.Contains(err.Error(), text[len(text)-20:]):
		t.Errorf("%s: the secret is shown: %v", what, err)
	}
}

func FuzzParseStatement(f *testing.F) {
	f.Add(text)
	f.Add(strings.Replace(text, "policy max_holds_per_holder=1000 ttl=0s ttl_open_holds=false", "policy", 1))
	f.Add(strings.Replace(text, "1234", "0", 1))
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseStatement(text); err == nil && s.Text() != text {
			t.Fatalf("%q is read, and written as %q", text, s.Text())
		}
	})
}

func FuzzOpen(f *testing.F) {
	signer, err := NewSigner("PRIVATE+KEY+" + encodeKey("k", typeLog, ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey), make([]byte, 32)))
	if err != nil {
		f.Fatal(err)
	}
	key, err := ParseKey(signer.Public())
	if err != nil {
		f.Fatal(err)
	}
	cosigner, witness := newCosigner(f, "w")
	st := statement()
	st.Name = ""
	signed, err := signer.Sign(st)
	if err != nil {
		f.Fatal(err)
	}
	both, err := cosigner.Cosign(signed, time.Unix(1, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add(both)
	f.Fuzz(func(t *testing.T, b []byte) {
		// Nobody else has the secret: what is opened begins with the bytes that were signed.
		if _, err := key.Open(b); err == nil && !strings.HasPrefix(string(b), string(signed[:len(st.Text())])) {
			t.Fatalf("opened: %q", b)
		}
		_, _ = witness.Verify(b)
		if again, err := cosigner.Cosign(b, time.Unix(1, 0)); err == nil {
			if _, err := witness.Verify(again); err != nil {
				t.Fatalf("%q was cosigned, and is not verified: %v", b, err)
			}
		}
	})
}
