package worker

import "golang.org/x/sys/unix"

// lowerThread has this thread, and whatever it starts, run only when nothing
// else wants to: SCHED_IDLE, sched(7). Everybody may do that to themselves. Where
// it is refused, hashes have the priority of everything else.
func lowerThread() {
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}, 0)
}
