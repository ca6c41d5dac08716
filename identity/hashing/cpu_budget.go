package hashing

import (
	"math"
	"runtime"
	"sync"
	"time"
)

// Slots returns how many requests may hash a password at once: one for each core that this process may
// use. If hashes run only when nothing else wants the CPU (idle), it returns one more. Otherwise a core
// would often be idle while a request that may hash waits for the database or the network.
func Slots(idle bool) int {
	slots := int(math.Ceil(cpuLimit()))
	if idle {
		slots++
	}
	return slots
}

// OwnsMachine reports whether this process may use every core. If a control group limits its CPU, a
// [Worker] must not wait until the CPU is idle, because it would never run while token checks use up the
// limit. [CPUShare] then bounds how much CPU hashes get.
func OwnsMachine() bool { return cpuLimit() >= float64(runtime.NumCPU()) }

// CPUShare returns the function [QueueOptions.Share] for a queue with the given number of slots, or nil if
// this process may use every core. The parameter separate says whether a [Worker] process hashes.
func CPUShare(slots int, separate bool) func() float64 {
	if OwnsMachine() {
		return nil
	}
	b := &cpuBudget{limit: cpuLimit(), slots: slots, now: time.Now, used: ownCPU, reserve: minReserve}
	b.throttled = func() time.Duration { return throttledTime(membershipFile, cgroupMount) }
	if !separate {
		b.used = func() time.Duration { return 0 } // hashes run in this process too, so the CPU time of everything else is unknown
	}
	return b.share
}

// cpuBudget computes how much of a control group's CPU limit hashes may use. When the limit is used up,
// the kernel throttles the whole container: nothing in it runs until the next tenth of a second, not
// even token checks. A low priority of the hashes does not prevent that. So hashes get what everything
// else leaves of the limit, minus a reserve. The reserve grows while the kernel throttles the container.
type cpuBudget struct {
	limit           float64 // the CPU limit in cores
	slots           int
	now             func() time.Time
	used, throttled func() time.Duration // totals so far: CPU time of everything but hashes; time for which the kernel throttled the container

	mu                      sync.Mutex
	lastLook                time.Time
	lastUsed, lastThrottled time.Duration
	reserve                 float64 // part of the limit that hashes leave free
	current                 float64 // last result of the method share
}

const (
	// Bounds of the reserve for sudden load, as parts of the CPU limit.
	minReserve, maxReserve = 0.02, 0.2
	// minHashing is the part of the CPU limit that hashes get even if everything else needs more.
	minHashing = 0.2
	// The reserve grows if the kernel throttles the container for more than this part of the time.
	tolerated    = 0.005
	budgetPeriod = time.Second // how long share returns the same result before it computes a new one
)

// share returns the part of the time, from 0 to 1, for which each slot of the [Queue] may hash.
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

// adjustReserve raises the reserve quickly while the container is throttled, and otherwise lowers it
// slowly. throttled is the part of the passed time for which the kernel throttled the container.
func (b *cpuBudget) adjustReserve(throttled float64, passed time.Duration) {
	if throttled > tolerated {
		b.reserve = min(maxReserve, b.reserve+0.03)
	} else {
		b.reserve = max(minReserve, b.reserve-0.005*passed.Seconds())
	}
}
