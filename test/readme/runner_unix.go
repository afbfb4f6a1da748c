//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// ownGroup puts a command and whatever it starts into a process group, as a terminal does with a job.
func ownGroup(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
}

// interrupt is Ctrl-C: the whole group gets it.
func interrupt(command *exec.Cmd) error {
	return syscall.Kill(-command.Process.Pid, syscall.SIGINT)
}

// endGroup kills what a command that has ended has left running in its group.
func endGroup(command *exec.Cmd) {
	_ = syscall.Kill(-command.Process.Pid, syscall.SIGKILL) // fails if there is nothing, which is what is wanted
}
