//go:build windows

package folder

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockOffset lies beyond the file's text: a locked range cannot be read by others, and the text is for them.
const lockOffset = 1 << 30

// TryLock takes the lock on an open file without waiting: ErrLocked if another process has it. It is held until the file is closed.
func TryLock(file *os.File) error {
	err := windows.LockFileEx(
		windows.Handle(file.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY,
		0, 1, 0, &windows.Overlapped{Offset: lockOffset})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) || errors.Is(err, windows.ERROR_IO_PENDING) {
		return ErrLocked
	}
	return err
}

// Sync does nothing: Windows offers no way to ask for it, and its file systems write names through their journal.
func Sync(string) error { return nil }
