package hashing

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// niceness of the process, setpriority(2): one that has none gets some thirty times as much
// beside it.
const niceness = 15

// lowerThread lowers the priority of this thread, and of whatever it starts. Everybody
// may do that to themselves. Where it is refused, hashes have the priority of everything else.
func lowerThread() { _ = unix.Setpriority(unix.PRIO_PROCESS, 0, niceness) }

// idleThread has this thread, and whatever it starts, run only when nothing
// else wants to: SCHED_IDLE, sched(7).
func idleThread() {
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
}

// giveWay lets those go first who wait for this core. Go's scheduler need not know.
func giveWay() { _, _, _ = syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
