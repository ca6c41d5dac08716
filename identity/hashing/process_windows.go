package hashing

import (
	"syscall"
	"time"
)

// ownCPU returns 0. Only a container's CPU limit, which Linux has, needs the CPU time.
func ownCPU() time.Duration { return 0 }

// ownGroup returns the attributes of a process that gets no signals from this process's console.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}
