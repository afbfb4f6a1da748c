// Package files reads files that a person has named. Such a name may be that of anything: of a device that never ends, too.
package files

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrTooLarge is wrapped by the error of Read if a file has more than may be read of it.
var ErrTooLarge = errors.New("too large")

// Read returns what a file has, which is at most limit bytes. Of one that has more, no more than these are read, and the error wraps ErrTooLarge and
// names the limit.
func Read(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, limit+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(b)) > limit:
		return nil, fmt.Errorf("%s is %w: it has more than %d bytes", path, ErrTooLarge, limit)
	}
	return b, nil
}
