//go:build !unix

package rig

import (
	"errors"
	"os"
)

// CanStop tells whether processes can be stopped for a while.
const CanStop = false

// terminate ends a process at once: there is no way to ask one process alone.
func terminate(p *os.Process) error { return p.Kill() }
func stop(*os.Process) error        { return errors.ErrUnsupported }
func resume(*os.Process) error      { return errors.ErrUnsupported }
