package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// lockName is the file in the store's folder whose lock says that a process
// uses the store. It holds that process's id, for the message to the second.
const lockName = "holdfast.lock"

// errLocked is what tryLock returns when another holds the lock.
var errLocked = errors.New("locked")

// storeLock is a lock of the operating system on an open file. It goes with
// the process, however that ends; the file stays and means nothing by itself.
type storeLock struct {
	file *os.File
}

// lockStore makes the folder if it is missing and locks it for this process.
func lockStore(dir string) (*storeLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("store folder: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store folder: %w", err)
	}
	if err := tryLock(file); err != nil {
		defer file.Close()
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("store folder %s is in use by another server (%s): stop it or choose another folder", dir, owner(file))
		}
		return nil, fmt.Errorf("lock %s: %w", file.Name(), err)
	}
	l := &storeLock{file: file}
	if err := l.sign(); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", file.Name(), err), l.release())
	}
	return l, nil
}

// sign writes this process's id into the locked file.
func (l *storeLock) sign() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// release gives the store free. The file is left: removing it would let two
// processes lock two files of one name.
func (l *storeLock) release() error {
	return l.file.Close()
}

// owner says who holds the lock, as well as the file tells.
func owner(file *os.File) string {
	text, err := io.ReadAll(io.LimitReader(file, 32))
	id, convErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || convErr != nil {
		return "process unknown"
	}
	return fmt.Sprintf("process %d", id)
}
