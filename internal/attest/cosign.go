package attest

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/city-chain/holdfast/pkg/events"
)

// Cosigner is a witness's key. It is safe for concurrent use.
type Cosigner struct{ *secret }

// NewCosigner returns the cosigner of a secret that GenerateWitnessKey has returned.
func NewCosigner(secret string) (*Cosigner, error) {
	s, err := parseSecret(secret, typeWitness)
	if err != nil {
		return nil, err
	}
	return &Cosigner{s}, nil
}

// Name returns the key's name.
func (c *Cosigner) Name() string { return c.name }

// Public returns the public key, as ParseWitnessKey reads it.
func (c *Cosigner) Public() string { return encodeKey(c.name, typeWitness, c.public(), c.public()) }

// cosigned returns what a cosignature is over: a time in Unix seconds, and the text.
func cosigned(seconds uint64, text []byte) []byte {
	return append([]byte("cosignature/v1\ntime "+strconv.FormatUint(seconds, 10)+"\n"), text...)
}

// Cosign returns a signed checkpoint with this witness's cosignature below the other signatures; one that it has already is replaced. The time,
// from 1970 to 9999, is when the witness found the checkpoint to be right, and is cut to whole seconds. Signatures that are there are not verified: that is for the
// caller, by [Key.Open]. The error says, too, if there is no room for one more: a note has at most 100 signatures, and 64 KiB. What [Key.Alone] returns has room.
func (c *Cosigner) Cosign(signed []byte, at time.Time) ([]byte, error) {
	n, err := parse(signed)
	if err != nil {
		return nil, fmt.Errorf("cosign: %w", err)
	}
	if _, err := ParseStatement(n.Text); err != nil {
		return nil, fmt.Errorf("cosign: %w", err)
	}
	if at.Unix() < 0 || events.TimeOf(at) > events.MaxTime {
		return nil, fmt.Errorf("cosign: at %s, which is not from 1970 to 9999", at)
	}
	l := lineOf(c.name, typeWitness, c.public())
	l.sign = func(text []byte) ([]byte, error) {
		seconds := uint64(at.Unix())
		return append(binary.BigEndian.AppendUint64(nil, seconds), ed25519.Sign(c.key, cosigned(seconds, text))...), nil
	}
	result, err := note.Sign(n, l)
	if err == nil {
		_, err = parse(result)
	}
	if err != nil {
		return nil, fmt.Errorf("cosign: %w", err)
	}
	return result, nil
}

// WitnessKey is a witness's public key.
type WitnessKey struct{ public }

// ParseWitnessKey reads a public key that GenerateWitnessKey, or Cosigner.Public, has returned.
func ParseWitnessKey(text string) (WitnessKey, error) {
	p, err := parsePublic(text, typeWitness)
	return WitnessKey{p}, err
}

// Name returns the key's name.
func (k WitnessKey) Name() string { return k.name }

// String returns the key as ParseWitnessKey reads it.
func (k WitnessKey) String() string { return encodeKey(k.name, typeWitness, k.key, k.key) }

// Verify verifies this witness's cosignature of a signed checkpoint, and returns when the witness gave it, in whole seconds. Other signatures are not looked
// at. The error wraps ErrMalformed, ErrOtherKey or ErrSignature.
func (k WitnessKey) Verify(signed []byte) (at time.Time, err error) {
	if _, err := textOf(signed); err != nil {
		return time.Time{}, err
	}
	l := lineOf(k.name, typeWitness, k.key)
	l.verify = func(text, signature []byte) bool {
		if len(signature) != 8+ed25519.SignatureSize {
			return false
		}
		seconds := binary.BigEndian.Uint64(signature)
		if seconds > uint64(events.MaxTime/1000) {
			return false
		}
		at = time.Unix(int64(seconds), 0).UTC()
		return ed25519.Verify(k.key, cosigned(seconds, text), signature[8:])
	}
	if _, err := verify(signed, l); err != nil {
		return time.Time{}, fmt.Errorf("cosignature: %w", err)
	}
	return at, nil
}
