// Package folder has what a process needs that keeps files of its own in a folder: a look whether the folder is its own, a lock, so
// that it is the only one, and the assurance that the disk has the names of the files, too.
package folder

import "errors"

// ErrLocked is what TryLock returns when another process holds the lock.
var ErrLocked = errors.New("locked")
