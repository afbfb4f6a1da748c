package attest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
)

// Types of keys, as signed notes number them.
const (
	typeLog     = 1 // Ed25519 over the text
	typeWitness = 4 // Ed25519 over a time and the text: a cosignature
)

func typeName(kind byte) string {
	switch kind {
	case typeLog:
		return "a key that signs checkpoints"
	case typeWitness:
		return "a witness's key"
	}
	return fmt.Sprintf("a key of type %d", kind)
}

// secretPrefix is what a secret begins with.
const secretPrefix = "PRIVATE+KEY+"

// HasSecret tells whether a text has a secret key in it, or the beginning of one, and so must not be shown.
func HasSecret(text string) bool { return strings.Contains(text, secretPrefix) }

// keyID returns how the signature lines of a key under a name are told from others.
func keyID(name string, kind byte, public ed25519.PublicKey) uint32 {
	h := sha256.New()
	h.Write([]byte(name))
	h.Write([]byte{'\n', kind})
	h.Write(public)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// encodeKey returns the text of a public key, or, after secretPrefix, of a secret, whose bytes are the seed.
func encodeKey(name string, kind byte, public ed25519.PublicKey, b []byte) string {
	return fmt.Sprintf("%s+%08x+%s", name, keyID(name, kind, public), base64.StdEncoding.EncodeToString(append([]byte{kind}, b...)))
}

// decodeKey reads what encodeKey writes, and nothing else. It never shows the text, which may be a secret.
func decodeKey(text string, kind byte, public func(b []byte) ed25519.PublicKey) (name string, b []byte, err error) {
	parts := strings.Split(text, "+")
	if len(parts) < 3 {
		return "", nil, fmt.Errorf("it is NAME+ID+KEY")
	}
	name = parts[0]
	if err := CheckName(name); err != nil {
		return "", nil, err
	}
	b, err = base64.StdEncoding.Strict().DecodeString(strings.Join(parts[2:], "+")) // base64 has the sign, too
	switch {
	case err != nil:
		return "", nil, fmt.Errorf("its last part is not base64")
	case len(b) == 0 || b[0] != kind:
		other := "nothing"
		if len(b) > 0 {
			other = typeName(b[0])
		}
		return "", nil, fmt.Errorf("it is %s; %s is needed", other, typeName(kind))
	case len(b) != 1+ed25519.PublicKeySize:
		return "", nil, fmt.Errorf("it has %d bytes; a key has %d", len(b)-1, ed25519.PublicKeySize)
	}
	b = b[1:]
	if encodeKey(name, kind, public(b), b) != text {
		return "", nil, fmt.Errorf("its id does not fit its name and bytes: something was left out or changed")
	}
	return name, b, nil
}

// secret is a key that signs.
type secret struct {
	name string
	key  ed25519.PrivateKey
}

func parseSecret(text string, kind byte) (*secret, error) {
	rest, ok := strings.CutPrefix(text, secretPrefix)
	if !ok {
		return nil, fmt.Errorf("secret key: it does not begin with %s", secretPrefix)
	}
	name, seed, err := decodeKey(rest, kind, func(seed []byte) ed25519.PublicKey {
		return ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	})
	if err != nil {
		return nil, fmt.Errorf("secret key: %w", err)
	}
	return &secret{name, ed25519.NewKeyFromSeed(seed)}, nil
}

func (s *secret) public() ed25519.PublicKey { return s.key.Public().(ed25519.PublicKey) }

// public is a key that verifies.
type public struct {
	name string
	key  ed25519.PublicKey
}

func parsePublic(text string, kind byte) (public, error) {
	if HasSecret(text) {
		return public{}, fmt.Errorf("public key: this is a secret key; its public key was written beside it")
	}
	name, key, err := decodeKey(text, kind, func(key []byte) ed25519.PublicKey { return key })
	if err != nil {
		return public{}, fmt.Errorf("public key: %w", err)
	}
	return public{name, key}, nil
}

// GenerateKey makes a key that signs checkpoints, and returns it and its public key, each as one line of text without its newline.
func GenerateKey(name string) (secret, public string, err error) { return generate(name, typeLog) }

// GenerateWitnessKey makes a key that cosigns checkpoints, and returns it and its public key, each as one line of text without its newline.
func GenerateWitnessKey(name string) (secret, public string, err error) {
	return generate(name, typeWitness)
}

func generate(name string, kind byte) (secret, public string, err error) {
	if err := CheckName(name); err != nil {
		return "", "", err
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", fmt.Errorf("make a key: %w", err)
	}
	return secretPrefix + encodeKey(name, kind, pub, key.Seed()), encodeKey(name, kind, pub, pub), nil
}

// PublicOf returns the public key of a key of either type, secret or public, as one line of text without its newline.
func PublicOf(key string) (string, error) {
	text, isSecret := strings.CutPrefix(key, secretPrefix)
	kind := byte(typeLog)
	if parts := strings.SplitN(text, "+", 3); len(parts) == 3 {
		if b, err := base64.StdEncoding.DecodeString(parts[2]); err == nil && len(b) > 0 && b[0] == typeWitness {
			kind = typeWitness
		}
	}
	if !isSecret {
		if _, err := parsePublic(key, kind); err != nil {
			return "", err
		}
		return key, nil
	}
	s, err := parseSecret(key, kind)
	if err != nil {
		return "", err
	}
	return encodeKey(s.name, kind, s.public(), s.public()), nil
}
