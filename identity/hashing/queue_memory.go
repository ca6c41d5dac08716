package hashing

import (
	"maps"
	"time"
)

// memory is of addresses, each until a time. It is of maxHeld at most.
type memory struct {
	until map[string]time.Time
	swept time.Time // when those were last dropped whose time is over
}

// sweepEvery is how often those are looked for whose time is over, when there are
// too many to look at them each time.
const sweepEvery = time.Second

func (m *memory) has(address string, now time.Time) bool { return now.Before(m.until[address]) }

func (m *memory) keep(address string, now time.Time, d time.Duration) {
	if len(m.until) >= maxHeld && now.Sub(m.swept) >= sweepEvery {
		m.swept = now
		maps.DeleteFunc(m.until, func(_ string, until time.Time) bool { return !now.Before(until) })
	}
	if m.until == nil {
		m.until = map[string]time.Time{}
	}
	if _, kept := m.until[address]; kept || len(m.until) < maxHeld {
		m.until[address] = now.Add(d)
	}
}

// returns counts who was told to come back, by the second.
type returns struct {
	at     int64 // Unix seconds; those before are back
	counts [mostReturn + 2]int
}

// from returns how many are still away.
func (r *returns) from(now time.Time) (n int) {
	for passed := min(now.Unix()-r.at, int64(len(r.counts))); passed > 0; passed-- {
		r.counts[(now.Unix()-passed)%int64(len(r.counts))] = 0
	}
	r.at = now.Unix()
	for _, count := range r.counts {
		n += count
	}
	return n
}

func (r *returns) add(back time.Time) {
	if back.Unix()-r.at < int64(len(r.counts)) {
		r.counts[back.Unix()%int64(len(r.counts))]++
	}
}
