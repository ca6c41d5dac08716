package worker

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// lowerThread has this thread, and whatever it starts, run only when nothing
// else wants to: SCHED_IDLE, sched(7). Everybody may do that to themselves. Where
// it is refused, hashes have the priority of everything else.
func lowerThread() {
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
}

// giveWay lets those go first who wait for this core. Go's scheduler need not know.
func giveWay() { _, _, _ = syscall.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
