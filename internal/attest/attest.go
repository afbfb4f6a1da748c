// Package attest has what an operator signs about a partition, and what a witness adds: statements, keys, signed checkpoints and
// cosignatures. It is pure: nothing in it does I/O or reads a clock.
//
// A [Statement] says how far a partition is folded, and has the roots of two Merkle trees: that of its messages, from the first
// on, and that of its state. Its text is a checkpoint of a transparency log (https://c2sp.org/tlog-checkpoint), signed as a note
// (https://c2sp.org/signed-note) with Ed25519: a [Signer] signs, a [Key] opens. A [Cosigner] adds a line that says that a witness has
// seen it at a time (https://c2sp.org/tlog-cosignature); a [WitnessKey] verifies that line. docs/audit.md has the formats, byte by byte.
package attest

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/pkg/events"
)

// Outcomes of opening what is signed. Each is wrapped by an error that says more.
var (
	// ErrMalformed says that it is no signed checkpoint.
	ErrMalformed = errors.New("not a signed checkpoint")
	// ErrOtherKey says that this key has not signed it; another one may have.
	ErrOtherKey = errors.New("not signed by this key")
	// ErrSignature says that a signature that claims to be this key's is none: the text, or the signature, was changed.
	ErrSignature = errors.New("the signature is wrong")
)

// Statement is what is signed about a partition.
type Statement struct {
	Name      string            // the key's, which names the deployment
	Stream    string            // of the messages: HOLDS or POH
	Created   int64             // when the stream was made, in Unix nanoseconds, from 1
	Partition int               // 0 to 15
	Size      uint64            // how many messages of the partition are folded: the leaves of the tree of messages
	Root      merkle.Hash       // root of the tree of messages
	Sequence  uint64            // of the last of these messages in the stream; at least Size
	Clock     events.Time       // the partition's stream clock
	State     merkle.Hash       // root of the tree of the partition's state
	Policy    map[string]string // that the state was folded under, as it is recorded with the stream
}

const (
	// maxText and maxSigned bound what is read, in bytes.
	maxText   = 8 << 10
	maxSigned = 64 << 10
	// maxName is the most bytes of a key's name.
	maxName = 200
)

// Origin returns what of the statement names the log: the key's name, the stream, when that was made, and the partition.
func (s *Statement) Origin() string {
	return fmt.Sprintf("%s/%s/%d/%d", s.Name, s.Stream, s.Created, s.Partition)
}

// Text returns what is signed: the text of the checkpoint, up to its last newline.
func (s *Statement) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%d\n%s\nsequence %d\nclock %d\nstate %s\npolicy",
		s.Origin(), s.Size, base64.StdEncoding.EncodeToString(s.Root[:]), s.Sequence, s.Clock, base64.StdEncoding.EncodeToString(s.State[:]))
	for _, name := range slices.Sorted(maps.Keys(s.Policy)) {
		fmt.Fprintf(&b, " %s=%s", name, s.Policy[name])
	}
	b.WriteByte('\n')
	return b.String()
}

// ParseStatement reads what Text writes, and nothing else: every value has one form.
func ParseStatement(text string) (*Statement, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("%w: a text of %d bytes; one has at most %d", ErrMalformed, len(text), maxText)
	}
	lines := strings.Split(text, "\n")
	if len(lines) != 8 || lines[7] != "" {
		return nil, fmt.Errorf("%w: a text of %d lines; one has 7", ErrMalformed, strings.Count(text, "\n"))
	}
	var s Statement
	for i, read := range []func(string) error{
		s.readOrigin,
		func(line string) (err error) { s.Size, err = strconv.ParseUint(line, 10, 64); return err },
		func(line string) (err error) { s.Root, err = readHash(line); return err },
		s.labelled("sequence", func(text string) (err error) { s.Sequence, err = strconv.ParseUint(text, 10, 64); return err }),
		s.labelled("clock", func(text string) error {
			n, err := strconv.ParseInt(text, 10, 64)
			s.Clock = events.Time(n)
			return err
		}),
		s.labelled("state", func(text string) (err error) { s.State, err = readHash(text); return err }),
		s.readPolicy,
	} {
		if err := read(lines[i]); err != nil {
			return nil, fmt.Errorf("%w: line %d, %.200q: %w", ErrMalformed, i+1, lines[i], err)
		}
	}
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if s.Text() != text { // a number with leading zeros, names that are not in their order, and the like
		return nil, fmt.Errorf("%w: a value is not in its one form", ErrMalformed)
	}
	return &s, nil
}

// validate returns what is wrong with values that are well-formed.
func (s *Statement) validate() error {
	switch {
	case s.Stream == "" || strings.IndexFunc(s.Stream, func(r rune) bool { return !plain(r) || r == '/' || r == '+' }) >= 0:
		return fmt.Errorf("%.200q is no stream's name", s.Stream)
	case s.Created < 1:
		return fmt.Errorf("a stream made at %d", s.Created)
	case s.Partition < 0 || s.Partition >= events.Partitions:
		return fmt.Errorf("partition %d; they are 0 to %d", s.Partition, events.Partitions-1)
	case s.Sequence < s.Size:
		return fmt.Errorf("%d messages up to sequence %d", s.Size, s.Sequence)
	case s.Size == 0 && s.Root != merkle.Empty:
		return errors.New("the root of a tree without leaves is the hash of nothing")
	case s.Clock < 0 || s.Clock > events.MaxTime:
		return fmt.Errorf("a clock of %d ms", s.Clock)
	}
	return CheckName(s.Name)
}

func (s *Statement) readOrigin(line string) error {
	parts := strings.Split(line, "/")
	n := len(parts) - 3
	if n < 1 {
		return errors.New("it is name/stream/created/partition")
	}
	var err1, err2 error
	s.Name, s.Stream = strings.Join(parts[:n], "/"), parts[n]
	s.Created, err1 = strconv.ParseInt(parts[n+1], 10, 64)
	s.Partition, err2 = strconv.Atoi(parts[n+2])
	return errors.Join(err1, err2)
}

func (s *Statement) labelled(label string, read func(string) error) func(string) error {
	return func(line string) error {
		value, ok := strings.CutPrefix(line, label+" ")
		if !ok {
			return fmt.Errorf("it begins with %q and a blank", label)
		}
		return read(value)
	}
}

func (s *Statement) readPolicy(line string) error {
	fields := strings.Split(line, " ")
	if fields[0] != "policy" {
		return errors.New(`it begins with "policy"`)
	}
	s.Policy = make(map[string]string, len(fields)-1)
	for _, field := range fields[1:] {
		name, value, ok := strings.Cut(field, "=")
		if !ok || name == "" || value == "" || strings.IndexFunc(field, func(r rune) bool { return !plain(r) }) >= 0 || strings.Contains(value, "=") {
			return fmt.Errorf("%.200q is not name=value", field)
		}
		s.Policy[name] = value
	}
	return nil
}

// plain tells whether a character is one of ASCII that shows.
func plain(r rune) bool { return r > ' ' && r <= '~' }

func readHash(text string) (h merkle.Hash, err error) {
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err == nil && len(b) != len(h) {
		err = fmt.Errorf("a hash of %d bytes; it has %d", len(b), len(h))
	}
	copy(h[:], b)
	return h, err
}

// CheckName returns what is wrong with the name of a key, or nil. A name is a URL without its scheme, such as
// ledger.example.org or example.org/ledger: characters that show, none of them a blank or a plus sign, at most 200 bytes. It need not lead anywhere.
func CheckName(name string) error {
	why := ""
	switch {
	case name == "":
		why = "it is empty"
	case len(name) > maxName:
		why = fmt.Sprintf("it has %d bytes; at most %d", len(name), maxName)
	case !utf8.ValidString(name):
		why = "it is not UTF-8"
	case strings.IndexFunc(name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsGraphic(r) }) >= 0:
		why = "it has a blank, or a character that does not show"
	case strings.Contains(name, "+"):
		why = "it has a plus sign"
	case strings.Contains(name, "://"):
		why = "it has a scheme; leave that out"
	case name[0] == '/' || name[len(name)-1] == '/' || strings.Contains(name, "//"):
		why = "a part between slashes is empty"
	default:
		return nil
	}
	return fmt.Errorf("%.200q cannot name a key: %s; take a URL without its scheme, such as ledger.example.org", name, why)
}
