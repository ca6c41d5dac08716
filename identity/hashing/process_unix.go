//go:build unix

package hashing

import (
	"syscall"
	"time"
)

// ownCPU returns how much CPU time this process has used, without its child processes.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0 // Getrusage cannot fail
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// ownGroup returns the attributes of a process that gets no signals from this process's terminal.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
