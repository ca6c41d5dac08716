package hashing

import (
	"syscall"
	"testing"
	"time"
)

// leastCPU runs each function five times and returns the least CPU time that each of them took. Unlike
// elapsed time, CPU time does not depend on how busy the machine is.
func leastCPU(t *testing.T, fs ...func()) []time.Duration {
	t.Helper()
	used := func() time.Duration {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			t.Fatal(err)
		}
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	least := make([]time.Duration, len(fs))
	for round := range 5 {
		for i, f := range fs {
			before := used()
			f()
			if took := used() - before; round == 0 || took < least[i] {
				least[i] = took
			}
		}
	}
	return least
}
