package client

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/city-chain/holdfast/pkg/events"
)

const (
	journalName     = "holds"
	trackerLockName = "holds.lock"

	// A journal is written anew when it is larger than this and than so many times what it was when that was last done.
	minCompact = 1 << 20
	compactAt  = 4

	// instantsMatter is for how many milliseconds the last instant of each pair is remembered.
	instantsMatter = 60 * 60 * 1000
)

// journalDisk is where a journal is. After an error of replace it is unknown whether it took place, but one of the two contents is there.
type journalDisk interface {
	read() ([]byte, error)                // nil if there is no journal yet
	replace(data []byte) (segment, error) // writes the journal anew, whole and durably, and opens it
}

// journal is the file of a tracker, and what it says. It is safe for concurrent use.
type journal struct {
	disk journalDisk
	now  func() events.Time

	mu      sync.Mutex
	state   *tracked     // exactly what the file says; guarded by mu
	waiting []*utterance // guarded by mu
	writing bool         // a goroutine is writing what waits; guarded by mu

	// Owned by the goroutine that has set writing.
	file  segment // nil: to be written anew before anything is appended
	size  int64
	base  int64 // the size when it was last written anew
	frame uint64
}

// utterance is words that wait to be written, all or none of them.
type utterance struct {
	words []word
	err   error
	done  chan struct{}
}

// openJournal reads a journal and writes it anew, without what is settled.
func openJournal(d journalDisk, now func() events.Time) (*journal, error) {
	data, err := d.read()
	if err != nil {
		return nil, err
	}
	j := &journal{disk: d, now: now, state: newTracked()}
	_, err = scanFrames(data, func(_ int, body []byte) error {
		w, err := readWord(body)
		if err != nil {
			return err
		}
		j.state.apply(&w)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w. It says which holds are open: restore the file, or move it away, knowing that its open holds are then to be released by other means", ErrDamaged, err)
	}
	return j, j.rewrite(j.compacted())
}

// compacted returns the journal's content without what is settled. The caller holds mu or is alone.
func (j *journal) compacted() []byte {
	j.state.forget(j.now() - instantsMatter)
	words := j.state.words()
	var content []byte
	for number := uint64(1); len(words) > 0; number++ {
		b := make([]byte, frameHeader)
		n := 0
		for n < len(words) && len(b) < maxFrame/2 {
			b = appendRecord(b, words[n].append(nil))
			n++
		}
		sealFrame(b, number)
		content, words = append(content, b...), words[n:]
		j.frame = number
	}
	return content
}

// rewrite replaces the file.
func (j *journal) rewrite(content []byte) error {
	j.drop()
	file, err := j.disk.replace(content)
	if err != nil {
		return err
	}
	j.file, j.size, j.base = file, int64(len(content)), int64(len(content))
	return nil
}

// drop closes the file; nothing is appended to it any more.
func (j *journal) drop() {
	if j.file != nil {
		_ = j.file.Close() // what counts was synced
		j.file = nil
	}
}

// say writes words and returns when they are on the disk; what comes at the same time is written and synced at once. After an error the
// state is as if nothing had been said. Only if the process dies before anything else is said may the words be there at the next opening.
func (j *journal) say(words ...word) error {
	u := &utterance{words: words, done: make(chan struct{})}
	j.mu.Lock()
	j.waiting = append(j.waiting, u)
	if j.writing {
		j.mu.Unlock()
		<-u.done
		return u.err
	}
	j.writing = true
	for len(j.waiting) > 0 {
		group := j.waiting
		j.waiting = nil
		anew := j.file == nil || j.size > max(minCompact, compactAt*j.base)
		var content []byte
		if anew {
			content = j.compacted()
		}
		j.mu.Unlock()
		err := error(nil)
		if anew {
			err = j.rewrite(content)
		}
		if err == nil {
			err = j.write(group)
		}
		j.mu.Lock()
		for _, u := range group {
			for i := range u.words {
				if err == nil {
					j.state.apply(&u.words[i])
				}
			}
			u.err = err
			close(u.done)
		}
	}
	j.writing = false
	j.mu.Unlock()
	<-u.done
	return u.err
}

// write appends a frame and syncs it. After an error the file is not appended to any more.
func (j *journal) write(group []*utterance) error {
	b := make([]byte, frameHeader)
	for _, u := range group {
		for i := range u.words {
			b = appendRecord(b, u.words[i].append(nil))
		}
	}
	j.frame++
	sealFrame(b, j.frame)
	_, err := j.file.WriteAt(b, j.size)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		_ = errors.Join(j.file.Truncate(j.size), j.file.Sync()) // so that it is not found if the process dies; if that fails too, the file is written anew
		j.drop()
		return fmt.Errorf("write the journal: %w", err)
	}
	j.size += int64(len(b))
	return nil
}

// journalFolder is a journal in a locked folder.
type journalFolder struct{ *folder }

func (f journalFolder) read() ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(f.path, journalName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

func (f journalFolder) replace(data []byte) (segment, error) {
	if err := replaceFile(f.path, journalName, data); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(f.path, journalName), os.O_RDWR, fileMode)
	if err != nil {
		return nil, err
	}
	return segmentFile{file}, nil
}
