// Package proof has files that prove a holder's score to somebody who has nothing but the operator's public key.
//
// A file has a signed checkpoint (package attest), the holder's state as the pipeline keeps it, and the hashes that lead from that state
// to the checkpoint's root of states; if it was asked for, also every event of the holder, each with the hashes that lead from the
// message that it came by to the root of messages. [File.Verify] checks all of that and says what it proves, and what it does not. Nothing in this package
// asks a server, reads a clock or does I/O: who has the file can verify it anywhere, at any time. docs/audit.md has the format, byte by byte.
package proof

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/city-chain/holdfast/internal/merkle"
)

// Format names the form of the files that this package writes, and the only one that it reads.
const Format = "holdfast-proof/1"

// MaxBytes is how large a file may be. One with 100,000 messages of some hundred bytes each has about half as many.
const MaxBytes = 256 << 20

// ErrRefused is wrapped by every error that says that a file proves nothing: it is none, it was changed or cut, or it is not signed
// by the key.
var ErrRefused = errors.New("not verified")

// File is a proof. Numbers that may need more than 53 bits are texts in it, so that no reader rounds them.
type File struct {
	Format     string `json:"format"`
	Checkpoint string `json:"checkpoint"` // a signed note, with all its lines of signature
	Holder     string `json:"holder"`     // the holder's id
	State      State  `json:"state"`
	// Events are the messages with events of the holder, in their order; nil if they were not asked for.
	Events []Message `json:"events"`
}

// State is the holder's state, and the way from it to the root of states.
type State struct {
	Value     []byte   `json:"value"`      // the holder's bytes as they stand in the value of its slot
	Slot      int      `json:"slot"`       // 0 to 255
	Index     uint64   `json:"index"`      // the leaf that Value is in the slot's tree, from 1
	Size      uint64   `json:"size"`       // of the slot's tree, in leaves
	SlotPath  [][]byte `json:"slot_path"`  // from the leaf to the slot's root
	StatePath [][]byte `json:"state_path"` // from the slot's root to the root of states
}

// Message is a message of the stream that has events of the holder, and the way from it to the root of messages.
type Message struct {
	Sequence uint64   `json:"sequence,string"` // in the stream
	Stored   int64    `json:"stored,string"`   // when the server stored it, in Unix nanoseconds
	Leaf     uint64   `json:"leaf,string"`     // which of the partition's messages it is, from 0
	Data     []byte   `json:"data"`            // its body
	Items    []int    `json:"items"`           // which of its events are the holder's, from 0
	Path     [][]byte `json:"path"`            // from the leaf to the root of messages
}

// Encode returns the file's bytes, or an error if these are more than MaxBytes.
func (f *File) Encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(f); err != nil {
		return nil, fmt.Errorf("encode a proof: %w", err)
	}
	if b.Len() > MaxBytes {
		return nil, fmt.Errorf("encode a proof: it has %d bytes, over the %d that one may have: leave out the events", b.Len(), MaxBytes)
	}
	return b.Bytes(), nil
}

// Decode reads what Encode writes; it may be indented otherwise. Any other difference is refused: an unknown field, one that comes twice or at another
// place, a number, text or base64 in another form, bytes behind the end. The error wraps ErrRefused.
func Decode(b []byte) (*File, error) {
	var f File
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%w: the file is no proof, or is cut: %w", ErrRefused, err)
	}
	if f.Format != Format {
		return nil, fmt.Errorf("%w: a file of the format %.100q; this program reads %q", ErrRefused, f.Format, Format)
	}
	again, err := f.Encode()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	var given, written bytes.Buffer
	if err := errors.Join(json.Compact(&given, b), json.Compact(&written, again)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if given, written := given.Bytes(), written.Bytes(); !bytes.Equal(given, written) {
		at := 0
		for at < min(len(given), len(written)) && given[at] == written[at] {
			at++
		}
		return nil, fmt.Errorf("%w: the file is not in the form of a proof: a field that proofs do not have, or that is not in its one form, near %.60q", ErrRefused, given[at:])
	}
	return &f, nil
}

// hashes returns a path's hashes.
func hashes(path [][]byte) ([]merkle.Hash, error) {
	if path == nil {
		return nil, errors.New("a path is missing")
	}
	list := make([]merkle.Hash, len(path))
	for i, b := range path {
		if len(b) != len(list[i]) {
			return nil, fmt.Errorf("hash %d of a path has %d bytes; one has %d", i, len(b), len(list[i]))
		}
		copy(list[i][:], b)
	}
	return list, nil
}

// Path returns hashes as a file has them.
func Path(list []merkle.Hash) [][]byte {
	path := make([][]byte, len(list))
	for i := range list {
		path[i] = bytes.Clone(list[i][:])
	}
	return path
}
