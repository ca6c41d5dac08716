package hashing

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// niceness of the worker, setpriority(2). A process of normal priority gets about thirty times as
// much CPU beside it.
const niceness = 15

// lowerThread lowers the priority of this thread and of whatever it starts. Any process may do that
// to itself. If the system refuses, hashes run at normal priority.
func lowerThread() { _ = unix.Setpriority(unix.PRIO_PROCESS, 0, niceness) }

// idleThread makes this thread, and whatever it starts, run only when nothing else wants the CPU:
// SCHED_IDLE, sched(7).
func idleThread() {
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
}

// yield lets the threads that wait for this core run first. Go's scheduler is not involved.
func yield() { _, _, _ = syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
