package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/city-chain/holdfast/internal/folder"
)

const (
	lockName = "lock"             // its lock says that a process adds to the archive
	fileMode = fs.FileMode(0o600) // events may be nobody else's business
)

// lockFolder makes an archive's folder if it is missing, and locks it for this process, until the file returned is closed or the process ends.
// The file is left: to remove it would let two processes lock two files of one name.
func lockFolder(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the archive's folder: %w", err)
	}
	if err := checkOwn(dir); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("lock the archive: %w", err)
	}
	if err := folder.TryLock(lock); err != nil {
		lock.Close()
		if errors.Is(err, folder.ErrLocked) {
			return nil, fmt.Errorf("another process adds to the archive %s: stop it, or choose another folder", dir)
		}
		return nil, fmt.Errorf("lock the archive %s: %w", dir, err)
	}
	return lock, nil
}

// checkOwn makes sure that a folder is an archive, or is to become one: a stream in it has a manifest, or it has nothing but what an archiver begins with.
func checkOwn(dir string) error {
	var manifests []string
	for _, stream := range Streams() {
		manifests = append(manifests, filepath.Join(stream, manifestName))
	}
	return folder.CheckOwn(dir, manifests, func(e fs.DirEntry) bool {
		return e.Name() == lockName || e.IsDir() && slices.Contains(Streams(), e.Name())
	}, "is no archive: no stream in it has a "+manifestName)
}
