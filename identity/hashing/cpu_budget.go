package hashing

import (
	"math"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Slots returns how many passwords may be hashed at once: one for each core that this process may
// use. With idle, there is one slot more, because one of the turns has always just begun or ended,
// and waits for the database or the network.
func Slots(idle bool) int {
	slots := int(math.Ceil(cpuLimit()))
	if idle {
		slots++
	}
	return slots
}

// OwnsMachine reports whether this process may use every core. Where a control group limits the CPU,
// a worker must not run only when nothing else does: it would not run at all while checks use up the
// limit. A [CPUShare] bounds the hashes there instead.
func OwnsMachine() bool { return cpuLimit() >= float64(runtime.NumCPU()) }

// CPUShare returns the Share of a queue with so many slots. It is nil if the process owns its machine.
// separate says that a [Worker] hashes.
func CPUShare(slots int, separate bool) func() float64 {
	if OwnsMachine() {
		return nil
	}
	b := &cpuBudget{limit: cpuLimit(), slots: slots, now: time.Now, used: ownCPU, reserve: minReserve}
	b.throttled = func() time.Duration { return throttledTime(membershipFile, cgroupMount) }
	if !separate {
		b.used = func() time.Duration { return 0 } // the CPU time of hashes cannot be separated from the rest
	}
	return b.share
}

// cpuBudget divides a control group's CPU limit. When the limit is used up, the kernel throttles the
// whole container, checks too, until the next tenth of a second. A low priority does not help against
// that. So hashes get what everything else leaves, minus a reserve that grows while the kernel
// throttles this process.
type cpuBudget struct {
	limit           float64 // cores
	slots           int
	now             func() time.Time
	used, throttled func() time.Duration // totals so far: CPU time without the hashes, and throttled time

	mu                      sync.Mutex
	lastLook                time.Time
	lastUsed, lastThrottled time.Duration
	reserve                 float64 // part of the limit
	current                 float64 // the share
}

const (
	// The reserve is for sudden load.
	minReserve, maxReserve = 0.02, 0.2
	// minHashing is the part of the limit that hashes get even if the rest is busy.
	minHashing = 0.2
	// tolerated is the part of the time for which the kernel may throttle this process.
	tolerated    = 0.005
	budgetPeriod = time.Second // how often the share is computed
)

// share returns the part of its time that a slot may hash.
func (b *cpuBudget) share() float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	passed := now.Sub(b.lastLook)
	if b.current > 0 && passed < budgetPeriod {
		return b.current
	}
	used, throttled := b.used(), b.throttled()
	others := 0.0 // cores that everything else uses
	if !b.lastLook.IsZero() {
		others = float64(used-b.lastUsed) / float64(passed)
		b.adjustReserve(float64(throttled-b.lastThrottled)/float64(passed), passed)
	}
	left := max(minHashing*b.limit, (1-b.reserve)*b.limit-others)
	b.lastLook, b.lastUsed, b.lastThrottled, b.current = now, used, throttled, min(1, left/float64(b.slots))
	return b.current
}

// adjustReserve raises the reserve quickly while the process is throttled, and lowers it slowly.
func (b *cpuBudget) adjustReserve(throttled float64, passed time.Duration) {
	if throttled > tolerated {
		b.reserve = min(maxReserve, b.reserve+0.03)
	} else {
		b.reserve = max(minReserve, b.reserve-0.005*passed.Seconds())
	}
}

// ownCPU returns the CPU time of this process without its children.
func ownCPU() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0 // it cannot fail
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
