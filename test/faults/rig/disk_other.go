//go:build !linux

package rig

import (
	"errors"
	"fmt"
)

// disk is a small file system in memory, for one server's store: there is none on this system.
type disk struct{}

// CanMount returns why no small file system can be made here, nil if it can.
func CanMount(string) error {
	return fmt.Errorf("mount a small file system: %w on this system", errors.ErrUnsupported)
}

func mountDisk(folder string, _ int64) (*disk, error) { return nil, CanMount(folder) }

func (*disk) fill() error    { return errors.ErrUnsupported }
func (*disk) drain() error   { return errors.ErrUnsupported }
func (*disk) unmount() error { return errors.ErrUnsupported }
