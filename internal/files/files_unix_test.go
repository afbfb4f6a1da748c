//go:build unix

package files

import (
	"errors"
	"testing"
)

func TestReadWithoutEnd(t *testing.T) {
	if _, err := Read("/dev/zero", 1<<16); !errors.Is(err, ErrTooLarge) {
		t.Errorf("read to the end of what has none: %v", err)
	}
}
