package client

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The files of a producer's folder.
const (
	lockName      = "lock"             // its lock says that a process uses the folder
	keptName      = "numbers"          // see kept
	segmentPrefix = "spool-"           // and a number of ten digits
	freshSuffix   = ".new"             // of a file that is not whole yet
	fileMode      = fs.FileMode(0o600) // events may be nobody else's business
)

// errLocked is what tryLock returns when another holds the lock.
var errLocked = errors.New("locked")

// folder is a locked folder on the disk.
type folder struct {
	path string
	lock *os.File
}

// openFolder makes the folder if it is missing and locks it for this process, until close or the process's end.
func openFolder(path, lockName string) (*folder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("lock the folder: %w", err)
	}
	if err := tryLock(lock); err != nil {
		defer lock.Close()
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("the folder %s is in use by another process (%s): stop it, or choose another folder and name", path, owner(lock))
		}
		return nil, fmt.Errorf("lock the folder %s: %w", path, err)
	}
	if err := sign(lock); err != nil {
		return nil, errors.Join(fmt.Errorf("lock the folder %s: %w", path, err), lock.Close())
	}
	return &folder{path: path, lock: lock}, nil
}

// sign writes this process's id into the locked file, for the message to another.
func sign(lock *os.File) error {
	if err := lock.Truncate(0); err != nil {
		return err
	}
	_, err := lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// owner says who holds the lock, as well as the file tells.
func owner(lock *os.File) string {
	text, err := io.ReadAll(io.LimitReader(lock, 32))
	id, convErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || convErr != nil {
		return "process unknown"
	}
	return fmt.Sprintf("process %d", id)
}

// close gives the folder free. The lock's file is left: to remove it would let two processes lock two files of one name.
func (f *folder) close() error { return f.lock.Close() }

func (f *folder) segments() ([]uint64, error) {
	files, err := os.ReadDir(f.path)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, file := range files {
		digits, ours := strings.CutPrefix(file.Name(), segmentPrefix)
		if !ours {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || n == 0 || f.segmentPath(n) != filepath.Join(f.path, file.Name()) {
			return nil, fmt.Errorf("%s is not a segment's name: move it away", filepath.Join(f.path, file.Name()))
		}
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (f *folder) segmentPath(number uint64) string {
	return filepath.Join(f.path, fmt.Sprintf("%s%010d", segmentPrefix, number))
}

func (f *folder) segment(number uint64, fresh bool) (segment, error) {
	flags := os.O_RDWR
	if fresh {
		flags |= os.O_CREATE | os.O_TRUNC // an attempt that failed may have left one, with nothing in it
	}
	file, err := os.OpenFile(f.segmentPath(number), flags, fileMode)
	if err != nil {
		return nil, err
	}
	if fresh {
		if err := f.sync(); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	}
	return segmentFile{file}, nil
}

func (f *folder) remove(number uint64) error {
	err := os.Remove(f.segmentPath(number))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // an earlier attempt did it
	}
	return err
}

func (f *folder) sync() error { return syncFolder(f.path) }

func (f *folder) readKept() ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(f.path, keptName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

func (f *folder) writeKept(data []byte) error { return replaceFile(f.path, keptName, data) }

// replaceFile gives a file of a folder another content. After a crash it has the old one or the new one, and after a return without an error
// the new one.
func replaceFile(dir, name string, data []byte) error {
	path := filepath.Join(dir, name)
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
	return syncFolder(dir)
}

// segmentFile is a segment in a folder.
type segmentFile struct{ *os.File }

func (f segmentFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
