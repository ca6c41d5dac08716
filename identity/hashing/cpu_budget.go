package hashing

import (
	"math"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Slots returns how many passwords may be hashed at once: one per core that this process may use.
// A worker that runs only when the machine is idle gets one slot more, because one of its turns
// has always just begun or ended, with a lookup of its user or a response on its way.
func Slots(idle bool) int {
	slots := int(math.Ceil(cpuLimit()))
	if idle {
		slots++
	}
	return slots
}

// OwnsMachine reports whether no control group limits the CPU of this process. Under a limit, a
// process that runs only when nothing else does would not run at all while checks use the limit
// up. A [CPUShare] bounds the hashes there instead.
func OwnsMachine() bool { return cpuLimit() >= float64(runtime.NumCPU()) }

// CPUShare returns the [QueueOptions.Share] of a queue with so many slots. It is nil on a machine
// that the process owns. separate says that a process of its own hashes.
func CPUShare(slots int, separate bool) func() float64 {
	if OwnsMachine() {
		return nil
	}
	b := &cpuBudget{limit: cpuLimit(), slots: slots, now: time.Now, used: ownCPU, reserve: leastReserve}
	b.stopped = func() time.Duration { return groupStopped("/proc/self/cgroup", "/sys/fs/cgroup") }
	if !separate {
		b.used = func() time.Duration { return 0 } // what hashes use cannot be told from the rest
	}
	return b.share
}

// cpuBudget is what a control group's limit leaves for hashes. When a limit is used up,
// the kernel stops all of the container, checks too, until the next tenth of a
// second, and a low priority does not help. So hashes take what everything else
// leaves, less a reserve that grows while the kernel has to stop us.
type cpuBudget struct {
	limit float64 // cores
	slots int
	now   func() time.Time
	// So far: what all but hashes used, and for how long the kernel stopped us.
	used, stopped func() time.Duration

	mu                    sync.Mutex
	at                    time.Time // of the last look
	usedThen, stoppedThen time.Duration
	reserve               float64 // of the limit
	present               float64
}

const (
	// The reserve is for what comes suddenly; leastHashing goes to hashes however busy
	// the rest is. Both are of the limit.
	leastReserve, mostReserve = 0.02, 0.2
	leastHashing              = 0.2
	// tolerated is for how much of the time the kernel may stop us.
	tolerated = 0.005
	// budgetPeriod is how often it is looked at.
	budgetPeriod = time.Second
)

// share is how much of its time a slot may hash.
func (b *cpuBudget) share() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if passed := now.Sub(b.at); b.present == 0 || passed >= budgetPeriod {
		used, stopped := b.used(), b.stopped()
		others := 0.0
		if !b.at.IsZero() {
			others = float64(used-b.usedThen) / float64(passed)
			b.adapt(float64(stopped-b.stoppedThen)/float64(passed), passed)
		}
		left := max(leastHashing*b.limit, (1-b.reserve)*b.limit-others)
		b.at, b.usedThen, b.stoppedThen, b.present = now, used, stopped, min(1, left/float64(b.slots))
	}
	return b.present
}

// adapt moves the reserve by the share of the time that passed for which we were
// stopped: up quickly, down slowly.
func (b *cpuBudget) adapt(stopped float64, passed time.Duration) {
	if stopped > tolerated {
		b.reserve = min(mostReserve, b.reserve+0.03)
	} else {
		b.reserve = max(leastReserve, b.reserve-0.005*passed.Seconds())
	}
}

// ownCPU is what this process has used, without its children.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0 // it cannot fail
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
