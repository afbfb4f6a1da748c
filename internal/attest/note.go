package attest

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// line is a key under the name by which it writes, or verifies, a line of signature.
type line struct {
	name   string
	id     uint32
	sign   func(text []byte) ([]byte, error)
	verify func(text, signature []byte) bool
}

func (l *line) Name() string                       { return l.name }
func (l *line) KeyHash() uint32                    { return l.id }
func (l *line) Sign(text []byte) ([]byte, error)   { return l.sign(text) }
func (l *line) Verify(text, signature []byte) bool { return l.verify(text, signature) }
func lineOf(name string, kind byte, p ed25519.PublicKey) *line {
	return &line{name: name, id: keyID(name, kind, p)}
}

// Signer signs statements. It is safe for concurrent use.
type Signer struct{ *secret }

// NewSigner returns the signer of a secret that GenerateKey has returned.
func NewSigner(secret string) (*Signer, error) {
	s, err := parseSecret(secret, typeLog)
	if err != nil {
		return nil, err
	}
	return &Signer{s}, nil
}

// Name returns the key's name.
func (s *Signer) Name() string { return s.name }

// Public returns the public key, as ParseKey reads it.
func (s *Signer) Public() string { return encodeKey(s.name, typeLog, s.public(), s.public()) }

// Sign returns the signed checkpoint of a statement. The statement's name may be empty; it is the key's. The same statement gives the same bytes. The
// error says what is wrong with the statement.
func (s *Signer) Sign(st *Statement) ([]byte, error) {
	named := *st
	if named.Name == "" {
		named.Name = s.name
	}
	if named.Name != s.name {
		return nil, fmt.Errorf("sign: a statement of %q by the key of %q", named.Name, s.name)
	}
	text := named.Text()
	if _, err := ParseStatement(text); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	l := lineOf(named.Origin(), typeLog, s.public())
	l.sign = func(text []byte) ([]byte, error) { return ed25519.Sign(s.key, text), nil }
	return note.Sign(&note.Note{Text: text}, l)
}

// Key is a public key whose signer signs statements.
type Key struct{ public }

// ParseKey reads a public key that GenerateKey, or Signer.Public, has returned.
func ParseKey(text string) (Key, error) {
	p, err := parsePublic(text, typeLog)
	return Key{p}, err
}

// Name returns the key's name.
func (k Key) Name() string { return k.name }

// String returns the key as ParseKey reads it.
func (k Key) String() string { return encodeKey(k.name, typeLog, k.key, k.key) }

// Open returns the statement of a signed checkpoint, after its signature by this key was verified. Other signatures may stand beside that one;
// they are not looked at. The error wraps ErrMalformed, ErrOtherKey or ErrSignature.
func (k Key) Open(signed []byte) (*Statement, error) {
	st, _, err := k.open(signed)
	return st, err
}

// Alone returns a signed checkpoint with this key's signature alone, after it was verified as by Open: what others have put beside it is left out, so what
// comes out is as the [Signer] has written it. The errors are those of Open.
func (k Key) Alone(signed []byte) ([]byte, error) {
	_, n, err := k.open(signed)
	if err != nil {
		return nil, err
	}
	return note.Sign(&note.Note{Text: n.Text, Sigs: n.Sigs})
}

// open returns the statement of a signed checkpoint, and the note with the signature by this key among those that are verified.
func (k Key) open(signed []byte) (*Statement, *note.Note, error) {
	st, err := Unverified(signed)
	if err != nil {
		return nil, nil, err
	}
	if st.Name != k.name {
		return nil, nil, fmt.Errorf("%w: the checkpoint is of %q, the key of %q", ErrOtherKey, st.Name, k.name)
	}
	l := lineOf(st.Origin(), typeLog, k.key)
	l.verify = func(text, signature []byte) bool { return ed25519.Verify(k.key, text, signature) }
	n, err := verify(signed, l)
	if errors.Is(err, ErrOtherKey) && strings.Contains(string(signed), "\n— "+st.Origin()+" ") { // a line's id is of the origin, and stands in no file of a key
		err = fmt.Errorf("%w: another key of the same name, %s, has signed it", ErrOtherKey, st.Name)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("checkpoint of %s: %w", st.Origin(), err)
	}
	return st, n, nil
}

// Unverified returns the statement of a signed checkpoint without a look at who has signed it. The error wraps ErrMalformed.
func Unverified(signed []byte) (*Statement, error) {
	text, err := textOf(signed)
	if err != nil {
		return nil, err
	}
	return ParseStatement(text)
}

// textOf returns what is signed, after everything else was found to have its one form.
func textOf(signed []byte) (string, error) {
	n, err := parse(signed)
	if err != nil {
		return "", err
	}
	return n.Text, nil
}

// parse reads a signed note without a look at who has signed. Each key may have signed once.
func parse(signed []byte) (*note.Note, error) {
	if len(signed) > maxSigned {
		return nil, fmt.Errorf("%w: it has %d bytes; one has at most %d", ErrMalformed, len(signed), maxSigned)
	}
	_, err := note.Open(signed, nil)
	var unverified *note.UnverifiedNoteError
	if !errors.As(err, &unverified) {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	n := unverified.Note
	again, err := note.Sign(n) // drops a line that comes twice
	if err != nil || string(again) != string(signed) {
		return nil, fmt.Errorf("%w: a line of signature comes twice", ErrMalformed)
	}
	type key struct {
		name string
		id   uint32
	}
	seen := map[key]bool{}
	for _, s := range n.UnverifiedSigs {
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return nil, fmt.Errorf("%w: the signature of %q: %w", ErrMalformed, s.Name, err)
		}
		if seen[key{s.Name, s.Hash}] {
			return nil, fmt.Errorf("%w: %q has signed twice with one key", ErrMalformed, s.Name)
		}
		seen[key{s.Name, s.Hash}] = true
	}
	return n, nil
}

// verify verifies the line of a key, and returns the note with it as the only one that is verified.
func verify(signed []byte, by *line) (*note.Note, error) {
	n, err := note.Open(signed, note.VerifierList(by))
	var unverified *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unverified):
		return nil, fmt.Errorf("%w: it has no signature by %s+%08x", ErrOtherKey, by.name, by.id)
	case errors.As(err, &invalid):
		return nil, fmt.Errorf("%w: that by %s+%08x is of another text, or was changed", ErrSignature, by.name, by.id)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return n, nil
}
