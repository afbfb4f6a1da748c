//go:build unix

package rig

import (
	"os"
	"syscall"
)

// CanStop tells whether processes can be stopped for a while.
const CanStop = true

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }
func stop(p *os.Process) error      { return p.Signal(syscall.SIGSTOP) }
func resume(p *os.Process) error    { return p.Signal(syscall.SIGCONT) }
