package events

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Partitions is the number of partitions of a log, and Slots the number of slots of a partition. Both are
// fixed when the streams are made: they decide where everything lies.
const (
	Partitions = 16
	Slots      = 256
)

// MaxID is the largest number of bytes of an id.
const MaxID = 128

// EncodeID returns an id as one token of a NATS subject or key: ASCII letters, digits, '-' and '_' stand for
// themselves, every other byte is '=' and two upper-case hexadecimal digits. "alice" stays "alice";
// "a.b" becomes "a=2Eb". Different ids have different encodings.
func EncodeID(id string) string {
	escaped := 0
	for i := range len(id) {
		if !plain(id[i]) {
			escaped++
		}
	}
	if escaped == 0 {
		return id
	}
	b := make([]byte, 0, len(id)+2*escaped)
	for i := range len(id) {
		if c := id[i]; plain(c) {
			b = append(b, c)
		} else {
			b = append(b, '=', hexDigits[c>>4], hexDigits[c&0xf])
		}
	}
	return string(b)
}

// DecodeID returns the id that EncodeID writes as token, or an error if it writes none so.
func DecodeID(token string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c == '=' && i+2 < len(token) {
			hi, lo := strings.IndexByte(hexDigits, token[i+1]), strings.IndexByte(hexDigits, token[i+2])
			if hi < 0 || lo < 0 || plain(byte(hi<<4|lo)) {
				return "", fmt.Errorf("%s is not an encoded id: %s at byte %d stands for nothing that is written so", quote(token), quote(token[i:i+3]), i)
			}
			b.WriteByte(byte(hi<<4 | lo))
			i += 2
			continue
		}
		if !plain(c) {
			return "", fmt.Errorf("%s is not an encoded id: %s at byte %d is not written so", quote(token), quote(token[i:i+1]), i)
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

const hexDigits = "0123456789ABCDEF"

// plain tells whether a byte of an id stands for itself in its encoding.
func plain(c byte) bool { return plainBytes[c] }

var plainBytes = func() (t [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
		t[c] = true
	}
	return t
}()

// Place is where an id's state lies: a partition and a slot of it.
type Place struct {
	Partition int // 0 to Partitions−1
	Slot      int // 0 to Slots−1
}

// PlaceOf returns the place of a holder or node: with h the 32-bit FNV-1a hash of the encoded id, partition
// h mod Partitions and slot (h / Partitions) mod Slots. The partition is the one that a stream's subject
// transform computes for the encoded id.
func PlaceOf(id string) Place {
	const offset, prime = 2166136261, 16777619
	h := uint32(offset)
	for i := range len(id) {
		c := id[i]
		if plainBytes[c] {
			h = (h ^ uint32(c)) * prime
			continue
		}
		h = (h ^ '=') * prime
		h = (h ^ uint32(hexDigits[c>>4])) * prime
		h = (h ^ uint32(hexDigits[c&0xf])) * prime
	}
	return Place{Partition: int(h % Partitions), Slot: int(h / Partitions % Slots)}
}

// CheckID refuses, by a [Refusal] that is about the field, what is not an id: nothing, over MaxID bytes, not UTF-8, not in
// Unicode's normal form C. Any character is permitted, control characters included: ids are encoded before they become
// part of a subject or a key.
func CheckID(field, id string) error {
	if id == "" {
		return refuse(MissingField, field, "it is missing or empty")
	}
	if len(id) > MaxID {
		return refuse(InvalidID, field, "%d bytes; at most %d are permitted", len(id), MaxID)
	}
	if !isASCII(id) {
		return checkUnicode(field, id)
	}
	return nil
}

// checkUnicode refuses a text that is not UTF-8 in normal form C.
func checkUnicode(field, s string) error {
	if !utf8.ValidString(s) {
		return refuse(InvalidID, field, "%s is not valid UTF-8", quote(s))
	}
	if !norm.NFC.IsNormalString(s) {
		return refuse(InvalidID, field, "%s is not in Unicode's normal form C (NFC): write it as %s", quote(s), quote(norm.NFC.String(s)))
	}
	return nil
}

func isASCII(s string) bool {
	for len(s) >= 8 {
		if (s[0]|s[1]|s[2]|s[3]|s[4]|s[5]|s[6]|s[7])&0x80 != 0 {
			return false
		}
		s = s[8:]
	}
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
