package rig

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// disk is a small file system in memory, for one server's store.
type disk struct {
	folder  string
	ballast string
}

// CanMount returns why no small file system can be made here, nil if it can.
func CanMount(folder string) error {
	trial, err := os.MkdirTemp(folder, "mount-")
	if err != nil {
		return err
	}
	defer os.Remove(trial)
	d, err := mountDisk(trial, 1<<20)
	if err != nil {
		return err
	}
	return d.unmount()
}

func mountDisk(folder string, size int64) (*disk, error) {
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
		return nil, fmt.Errorf("mount a small file system (it takes root): %w", err)
	}
	return &disk{folder: folder, ballast: filepath.Join(folder, "ballast")}, nil
}

// fill writes a file until there is no room for a page.
func (d *disk) fill() error {
	f, err := os.OpenFile(d.ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 8 << 20; size >= 4096; { // the larger pieces first
		switch _, err := f.Write(make([]byte, size)); {
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case err != nil:
			return err
		}
	}
	return nil
}

func (d *disk) drain() error { return os.RemoveAll(d.ballast) }

func (d *disk) unmount() error {
	if err := syscall.Unmount(d.folder, 0); err != nil {
		return fmt.Errorf("unmount %s: %w", d.folder, err)
	}
	return nil
}
