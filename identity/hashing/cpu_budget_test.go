package hashing

import (
	"math"
	"testing"
	"time"
)

func TestCPUBudget_GivesHashesTheCPUThatNothingElseUses(t *testing.T) {
	now, used, throttled := time.Unix(0, 0), time.Duration(0), time.Duration(0)
	b := &cpuBudget{
		limit: 1.5, slots: 2, reserve: 0.05, now: func() time.Time { return now },
		used: func() time.Duration { return used }, throttled: func() time.Duration { return throttled },
	}
	for _, step := range []struct {
		name                    string
		passed, used, throttled time.Duration
		want                    float64
	}{
		{"at first, everything except the reserve", 0, 0, 0, 0.7125},
		{"within the first second, the same share", 900 * time.Millisecond, 900 * time.Millisecond, 0, 0.7125},
		{"after everything else used half a core for two seconds", 1100 * time.Millisecond, 100 * time.Millisecond, 0, 0.47},
		{"after everything else used no CPU", time.Second, 0, 0, 0.72375},
		{"after everything else used the whole limit, the minimum", time.Second, 1500 * time.Millisecond, 0, 0.15},
		{"after throttling, a larger reserve", time.Second, 0, 100 * time.Millisecond, 0.705},
		{"after throttling that is short enough to tolerate, a smaller reserve", time.Second, 0, time.Millisecond, 0.70875},
		{"after a quiet minute, the smallest reserve", time.Minute, 0, 0, 0.735},
	} {
		now, used, throttled = now.Add(step.passed), used+step.used, throttled+step.throttled
		if got := b.share(); math.Abs(got-step.want) > 1e-9 {
			t.Errorf("%s: share %v, want %v", step.name, got, step.want)
		}
	}
}
