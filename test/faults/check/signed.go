package check

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	"github.com/vmihailenco/msgpack/v5"
)

// signed is what a signed checkpoint says. docs/audit.md has its form.
type signed struct {
	size, sequence uint64
	clock          int64
	root, state    string
}

// openSigned reads a signed checkpoint of a partition and verifies that it is of that key.
func openSigned(note []byte, key ed25519.PublicKey, origin string) (s signed, err error) {
	text, lines, found := strings.Cut(string(note), "\n\n")
	text += "\n"
	fields := strings.Split(text, "\n")
	if !found || len(fields) != 8 {
		return s, fmt.Errorf("%d lines of text", len(fields)-1)
	}
	name, ok := strings.CutSuffix(fields[0], origin)
	if !ok || name == "" {
		return s, fmt.Errorf("it is of %q, not of %q", fields[0], origin)
	}
	encoded, ok := strings.CutPrefix(lines, "— "+fields[0]+" ")
	if !ok {
		return s, fmt.Errorf("signature lines %q", lines)
	}
	signature, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(encoded, "\n"))
	id := sha256.Sum256([]byte(fields[0] + "\n\x01" + string(key)))
	if err != nil || len(signature) != 4+ed25519.SignatureSize || !bytes.Equal(signature[:4], id[:4]) || !ed25519.Verify(key, []byte(text), signature[4:]) {
		return s, fmt.Errorf("its signature is wrong: %q", encoded)
	}
	for i, read := range []func(string) error{
		func(v string) (err error) { s.size, err = strconv.ParseUint(v, 10, 64); return err },
		func(v string) (err error) { s.root, err = decodeRoot(v); return err },
		labelled("sequence ", func(v string) (err error) { s.sequence, err = strconv.ParseUint(v, 10, 64); return err }),
		labelled("clock ", func(v string) (err error) { s.clock, err = strconv.ParseInt(v, 10, 64); return err }),
		labelled("state ", func(v string) (err error) { s.state, err = decodeRoot(v); return err }),
	} {
		if err := read(fields[1+i]); err != nil {
			return s, fmt.Errorf("line %d: %w", 2+i, err)
		}
	}
	return s, nil
}

func labelled(label string, read func(string) error) func(string) error {
	return func(line string) error {
		value, ok := strings.CutPrefix(line, label)
		if !ok {
			return fmt.Errorf("it does not begin with %q", label)
		}
		return read(value)
	}
}

func decodeRoot(text string) (string, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err == nil && len(b) != sha256.Size {
		err = fmt.Errorf("a root of %d bytes", len(b))
	}
	return string(b), err
}

// compareSigned holds what was signed of a partition against its messages, and the last of it against the stored state, whose roots
// by slot are given, and whose workers have stopped: they sign what they leave.
func (c *checker) compareSigned(ctx context.Context, p *partition, stream Stream, checkpoint []byte, roots map[int]string) error {
	where := fmt.Sprintf("%s/%d", p.log.stream, p.number)
	origin := fmt.Sprintf("/%s/%d/%d", p.log.stream, stream.Created.UnixNano(), p.number)
	var last signed
	err := c.Source.Messages(ctx, "CHECKPOINTS", fmt.Sprintf("checkpoint.%s.%d", p.log.stream, p.number), func(m *Message) error {
		s, err := openSigned(m.Data, c.SigningKey, origin)
		switch {
		case err != nil:
			c.disagree("%s: signed checkpoint %d: %v", where, m.Sequence, err)
			return nil
		case s.size <= last.size || s.size > p.messages:
			c.disagree("%s: signed checkpoint %d is of %d messages, behind one of %d; there are %d", where, m.Sequence, s.size, last.size, p.messages)
			return nil
		case s.root != treeRoot(p.leaves[:s.size]):
			c.disagree("%s: signed checkpoint %d: the first %d messages have another root", where, m.Sequence, s.size)
		}
		last = s
		c.mu.Lock()
		c.report.Signed++
		c.mu.Unlock()
		return nil
	})
	switch {
	case err != nil:
		return err
	case last.size != p.messages:
		c.disagree("%s: the last signed checkpoint is of %d messages, and there are %d", where, last.size, p.messages)
		return nil
	case p.messages == 0:
		return nil
	case last.clock != p.clock || last.sequence < p.last || last.sequence > stream.Last:
		c.disagree("%s: the last signed checkpoint is as of sequence %d and clock %d, should be from %d on and %d", where, last.sequence, last.clock, p.last, p.clock)
	}
	leaves := []string{leaf(totalsOf(checkpoint))}
	for i := range slots {
		leaves = append(leaves, leaf([]byte(roots[i])))
	}
	if treeRoot(leaves) != last.state {
		c.disagree("%s: the state that was signed last is not what is stored", where)
	}
	return nil
}

// totalsOf returns the bytes of the totals in a checkpoint that decodeCheckpoint has read.
func totalsOf(checkpoint []byte) []byte {
	in := bytes.NewReader(checkpoint)
	d := msgpack.NewDecoder(in)
	from := 0
	_, err := d.DecodeArrayLen()
	for range 11 { // the totals are the eleventh part
		from = len(checkpoint) - in.Len()
		if err == nil {
			err = d.Skip()
		}
	}
	if err != nil {
		panic(fmt.Sprintf("a checkpoint that was read before: %v", err))
	}
	return checkpoint[from : len(checkpoint)-in.Len()]
}
