package hashing

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// niceness is the priority of the [Worker]'s process; see setpriority(2). A process of normal priority
// that wants the same core gets about thirty times as much CPU.
const niceness = 15

// lowerThread lowers the priority of this thread, and of the threads and processes that it will start.
// No privilege is needed for that. If the kernel refuses, hashes run at normal priority.
func lowerThread() { _ = unix.Setpriority(unix.PRIO_PROCESS, 0, niceness) }

// idleThread makes this thread run only when nothing else wants the CPU (SCHED_IDLE in sched(7)).
func idleThread() {
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
}

// yield lets the threads that wait for this core run first. It bypasses Go's scheduler.
func yield() { _, _, _ = syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
