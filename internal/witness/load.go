package witness

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/merkle"
)

// load returns a partition as the witness has left it. What it has cosigned must be there, with its signature and cosignature; the tree is taken if
// it is that of the newest of them, and otherwise the messages are to be read again from where it is, or from the first one on.
func (s *store) load(stream string, number int) (*partition, error) {
	p := &partition{stream: stream, number: number}
	if err := s.loadRefused(p); err != nil {
		return nil, err
	}
	name := nameOf(stream, number, recordSuffix)
	last, err := s.lastEntry(name)
	if err != nil {
		return nil, err
	}
	kept, err := s.readOwn(p)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	switch {
	case last == nil && kept == nil:
		return p, nil
	case last == nil:
		return nil, fmt.Errorf("%w: %s is gone, and %s is there: put it back, or begin a new folder", ErrDamaged, name, nameOf(stream, number, checkpointSuffix))
	}
	newest, err := s.open(p, name, last.Checkpoint)
	if err != nil {
		return nil, err
	}
	if kept != nil && kept.Size > newest.Size {
		return nil, fmt.Errorf("%w: %s ends with a checkpoint of %d messages, and %s is of %d: lines are gone from its end; put them back, or begin a new folder",
			ErrDamaged, name, newest.Size, nameOf(stream, number, checkpointSuffix), kept.Size)
	}
	tree, err := s.loadTree(p)
	if err != nil {
		return nil, err
	}
	for _, st := range []*attest.Statement{newest, kept} {
		if st != nil && st.Size == tree.Size() {
			if tree.Root() != st.Root {
				return nil, fmt.Errorf("%w: %s has not the root that was cosigned: remove it, and the messages will be read again", ErrDamaged, nameOf(stream, number, treeSuffix))
			}
			p.newest, p.since, p.tree = st, last.At, tree
			p.at, p.through, p.clock = st.Sequence, st.Sequence, st.Clock
			break
		}
	}
	if p.newest == nil && tree.Size() > 0 {
		return nil, fmt.Errorf("%w: %s is of %d messages, of which nothing is cosigned: remove it, and the messages will be read again", ErrDamaged, nameOf(stream, number, treeSuffix), tree.Size())
	}
	switch {
	case p.refused != nil: // it is not judged any more
	case p.newest != newest: // a crash came before the tree was stored, or the tree was removed
		p.targets = []*target{{number: last.Number, note: []byte(last.Checkpoint), statement: newest, again: true}}
	case kept == nil || kept.Size != newest.Size: // a crash came before the checkpoint was stored, or it was removed
		p.stored = snapshotOf(last.Checkpoint, &tree)
	}
	return p, nil
}

func (s *store) loadRefused(p *partition) error {
	name := nameOf(p.stream, p.number, refusedSuffix)
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	p.refused = &Refusal{}
	if err := json.Unmarshal(b, p.refused); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, name, err)
	}
	return nil
}

func (s *store) loadTree(p *partition) (merkle.Log, error) {
	name := nameOf(p.stream, p.number, treeSuffix)
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return merkle.Log{}, nil
	}
	if err != nil {
		return merkle.Log{}, err
	}
	tree, err := readTree(b)
	if err != nil {
		return merkle.Log{}, fmt.Errorf("%w: %s: %w; remove it, and the messages will be read again", ErrDamaged, name, err)
	}
	return tree, nil
}

// readOwn reads the newest cosigned checkpoint of a partition.
func (s *store) readOwn(p *partition) (*attest.Statement, error) {
	name := nameOf(p.stream, p.number, checkpointSuffix)
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		return nil, err
	}
	return s.open(p, name, string(b))
}

// open returns the statement of a checkpoint of a partition that this witness has cosigned, and that the file of that name has.
func (s *store) open(p *partition, name, note string) (*attest.Statement, error) {
	st, err := s.key.Open([]byte(note))
	if err == nil {
		_, err = s.witness.Verify([]byte(note))
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w: it was edited; put it back as it was", ErrDamaged, name, err)
	case st.Stream != p.stream || st.Partition != p.number:
		return nil, fmt.Errorf("%w: %s: the checkpoint is of partition %d of %s", ErrDamaged, name, st.Partition, st.Stream)
	}
	return st, nil
}

// lastEntry returns the last line of a record; nil if there is none. What a crash has left unfinished behind it is cut off.
func (s *store) lastEntry(name string) (*entry, error) {
	path := filepath.Join(s.dir, name)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size, err := endOfLines(file)
	if err != nil {
		return nil, err
	}
	from := max(0, size-2*maxLine)
	b := make([]byte, size-from)
	if _, err := file.ReadAt(b, from); err != nil {
		return nil, err
	}
	if len(b) == 0 {
		return nil, nil
	}
	line := b[bytes.LastIndexByte(b[:len(b)-1], '\n')+1:]
	e := &entry{}
	if err := json.Unmarshal(line, e); err != nil {
		return nil, fmt.Errorf("%w: the last line of %s: %w", ErrDamaged, name, err)
	}
	return e, nil
}

// recorded returns all that was cosigned of a partition, by size, with each statement once. A line that is damaged is an error.
func (s *store) recorded(p *partition) ([]*attest.Statement, error) {
	name := nameOf(p.stream, p.number, recordSuffix)
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []*attest.Statement
	number := 0
	for line := range strings.Lines(string(b)) {
		number++
		var e entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, fmt.Errorf("%w: line %d of %s: %w", ErrDamaged, number, name, err)
		}
		st, err := s.open(p, fmt.Sprintf("line %d of %s", number, name), e.Checkpoint)
		if err != nil {
			return nil, err
		}
		list = append(list, st)
	}
	slices.SortStableFunc(list, func(a, b *attest.Statement) int { return cmp.Compare(a.Size, b.Size) })
	return slices.CompactFunc(list, func(a, b *attest.Statement) bool { return a.Text() == b.Text() }), nil
}
