package witness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/city-chain/holdfast/internal/attest"
	"github.com/city-chain/holdfast/internal/folder"
	"github.com/city-chain/holdfast/internal/merkle"
	"github.com/city-chain/holdfast/pkg/wire"
)

// The files of a witness's folder. Those of a partition begin with its stream and number, as in HOLDS.3.checkpoint.
const (
	lockName     = "lock"           // its lock says that a process uses the folder
	identityName = "witness.json"   // see identity
	evidenceName = "evidence.jsonl" // refusals, one a line, of all partitions

	checkpointSuffix = ".checkpoint" // the newest cosigned checkpoint
	treeSuffix       = ".tree"       // the tree of its messages
	recordSuffix     = ".record"     // all cosigned checkpoints, one a line; see entry
	refusedSuffix    = ".refused"    // why the partition is refused, and the checkpoint that is at fault

	freshSuffix = ".new" // of a file that is not whole yet

	format   = "holdfast-witness/1"
	fileMode = fs.FileMode(0o644) // what a witness keeps is for others to see

	// maxEvidence bounds the file of evidence, in bytes. What is refused beyond it is logged, counted, and not kept, but for what makes a
	// partition refused.
	maxEvidence = 64 << 20
	// maxLine bounds a line of a record, in bytes.
	maxLine = 256 << 10
)

// ErrDamaged says that a file of the folder is not what the witness has written there.
var ErrDamaged = errors.New("the folder is not as the witness has left it")

// identity is whose folder it is, and how far the stream of checkpoints was judged.
type identity struct {
	Format      string            `json:"format"`
	Key         string            `json:"key"`         // the witness's public key
	LogKey      string            `json:"log_key"`     // that of the log
	Checkpoints int64             `json:"checkpoints"` // when the stream of checkpoints was made, Unix nanoseconds
	Judged      map[string]uint64 `json:"judged"`      // by log: the number through which its checkpoints are judged
}

// entry is a line of a record: a checkpoint that was cosigned.
type entry struct {
	Number     uint64    `json:"number"` // its sequence in the stream of checkpoints
	At         time.Time `json:"at"`     // when it was cosigned, UTC
	Checkpoint string    `json:"checkpoint"`
}

// snapshot is a partition as of its newest cosigned checkpoint.
type snapshot struct {
	checkpoint string
	tree       []byte
}

func snapshotOf(checkpoint string, tree *merkle.Log) *snapshot {
	b := wire.AppendUint(wire.AppendArray(nil, 2), tree.Size())
	return &snapshot{checkpoint, tree.AppendPeaks(b)}
}

func readTree(b []byte) (merkle.Log, error) {
	r := wire.NewReader(string(b))
	if n := r.Array(); n != 2 {
		r.Fail("a tree of %d parts; it has 2", n)
	}
	tree := merkle.ReadPeaks(&r, r.Uint())
	return tree, r.Close()
}

// store is a witness's folder, locked for this process.
type store struct {
	dir      string
	lock     *os.File
	key      attest.Key
	witness  attest.WitnessKey
	identity identity
}

// openStore opens a folder, which it makes if it is missing.
func openStore(dir string, key attest.Key, witness attest.WitnessKey) (*store, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder: %w", err)
	}
	if err := checkOwn(dir); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("lock the folder: %w", err)
	}
	if err := folder.TryLock(lock); err != nil {
		if errors.Is(err, folder.ErrLocked) {
			err = fmt.Errorf("the folder %s is in use by another witness: stop it, or choose another folder", dir)
		}
		return nil, errors.Join(err, lock.Close())
	}
	s := &store{dir: dir, lock: lock, key: key, witness: witness}
	if err := s.readIdentity(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// ownName is what the files of a witness's folder are named.
var ownName = regexp.MustCompile(`^(lock|(witness\.json|evidence\.jsonl|[A-Z]+\.[0-9]+\.(checkpoint|tree|record|refused))(\.new)?)$`)

// checkOwn makes sure that a folder is a witness's, or is to become one: it has a witness.json, or nothing but what a witness writes.
func checkOwn(dir string) error {
	return folder.CheckOwn(dir, []string{identityName}, func(e fs.DirEntry) bool {
		return !e.IsDir() && ownName.MatchString(e.Name())
	}, "is no witness's: it has no "+identityName)
}

// close gives the folder free. The lock's file is left: to remove it would let two processes lock two files of one name.
func (s *store) close() error { return s.lock.Close() }

func (s *store) readIdentity() error {
	b, err := os.ReadFile(filepath.Join(s.dir, identityName))
	if errors.Is(err, fs.ErrNotExist) {
		s.identity = identity{Format: format, Key: s.witness.String(), LogKey: s.key.String(), Judged: map[string]uint64{}}
		return s.saveIdentity()
	}
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	switch err := d.Decode(&s.identity); {
	case err != nil:
		return fmt.Errorf("%w: %s: %w", ErrDamaged, identityName, err)
	case s.identity.Format != format:
		return fmt.Errorf("the folder %s has the format %q, and this witness knows %q", s.dir, s.identity.Format, format)
	case s.identity.Key != s.witness.String():
		return fmt.Errorf("the folder %s is that of the witness %s, not of %s: choose another folder", s.dir, s.identity.Key, s.witness)
	case s.identity.LogKey != s.key.String():
		return fmt.Errorf("the folder %s has checkpoints that %s has signed, not %s: for another log, or another key, begin a new folder", s.dir, s.identity.LogKey, s.key)
	case s.identity.Judged == nil:
		return fmt.Errorf("%w: %s: it does not say what is judged", ErrDamaged, identityName)
	}
	return nil
}

func (s *store) saveIdentity() error { return s.saveJSON(identityName, &s.identity) }

func (s *store) saveJSON(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return s.replace(name, append(b, '\n'))
}

// replace gives a file another content. After a crash it has the old one or the new one, and after a return without an error the new
// one.
func (s *store) replace(name string, data []byte) error {
	path := filepath.Join(s.dir, name)
	file, err := os.OpenFile(path+freshSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+freshSuffix, path); err != nil {
		return err
	}
	return folder.Sync(s.dir)
}

// extend adds whole lines to a file's end, and returns when the disk has them. After an error the file is as it was.
func (s *store) extend(name string, lines []byte) error {
	path := filepath.Join(s.dir, name)
	_, err := os.Stat(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return err
	}
	if err = errors.Join(addLines(file, lines), file.Close()); err == nil && fresh {
		err = folder.Sync(s.dir)
	}
	return err
}

// lined is a file of lines.
type lined interface {
	io.ReaderAt
	io.WriteSeeker
	Truncate(size int64) error
	Sync() error
}

// addLines adds whole lines behind the last whole line of a file. If not all of them can be written, none is left, so that what is added later begins a line.
func addLines(file lined, lines []byte) error {
	size, err := endOfLines(file)
	if err != nil {
		return err
	}
	if _, err = file.Seek(size, io.SeekStart); err == nil {
		_, err = file.Write(lines)
	}
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		err = errors.Join(err, file.Truncate(size))
	}
	return err
}

// endOfLines cuts off what is behind the last whole line of a file, which a crash has left unfinished, and returns the file's size.
func endOfLines(file lined) (int64, error) {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	whole := size
	for b := make([]byte, 64<<10); whole > 0; {
		n := min(whole, int64(len(b)))
		if _, err := file.ReadAt(b[:n], whole-n); err != nil {
			return 0, err
		}
		end := int64(bytes.LastIndexByte(b[:n], '\n')) + 1
		whole += end - n
		if end > 0 {
			break
		}
	}
	if whole < size {
		err = file.Truncate(whole)
	}
	return whole, err
}

func nameOf(stream string, partition int, suffix string) string {
	return fmt.Sprintf("%s.%d%s", stream, partition, suffix)
}

// save stores what a partition has come to. First the record, then the tree, then the checkpoint: load knows where a crash has come in between.
func (s *store) save(p *partition) error {
	if len(p.fresh) > 0 {
		var lines bytes.Buffer
		e := json.NewEncoder(&lines)
		e.SetEscapeHTML(false)
		for _, x := range p.fresh {
			if err := e.Encode(x); err != nil {
				return err
			}
		}
		if err := s.extend(nameOf(p.stream, p.number, recordSuffix), lines.Bytes()); err != nil {
			return err
		}
		p.fresh = nil
	}
	if p.stored != nil {
		if err := s.replace(nameOf(p.stream, p.number, treeSuffix), p.stored.tree); err != nil {
			return err
		}
		if err := s.replace(nameOf(p.stream, p.number, checkpointSuffix), []byte(p.stored.checkpoint)); err != nil {
			return err
		}
		p.stored = nil
	}
	return nil
}

// keep keeps the evidence of a refusal.
func (s *store) keep(r *Refusal) error {
	if r.Reason.final() {
		if err := s.saveJSON(nameOf(r.Stream, r.Partition, refusedSuffix), r); err != nil {
			return err
		}
	}
	info, err := os.Stat(filepath.Join(s.dir, evidenceName))
	if err == nil && info.Size() > maxEvidence {
		return nil
	}
	var line bytes.Buffer
	e := json.NewEncoder(&line)
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return err
	}
	return s.extend(evidenceName, line.Bytes())
}
