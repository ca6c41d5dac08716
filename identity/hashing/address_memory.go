package hashing

import (
	"maps"
	"time"
)

// addressMemory is a bounded set of client addresses or networks, each with an expiry time.
type addressMemory struct {
	most  int                  // how many addresses the set holds
	until map[string]time.Time // expiry time by client address
	swept time.Time            // when expired addresses were last removed
}

// sweepEvery is the minimum time between two removals of expired addresses from a full set. Removing them
// for each new address would take more time than a hash.
const sweepEvery = time.Second

func (m *addressMemory) has(address string, now time.Time) bool {
	return now.Before(m.until[address])
}

// keep adds or renews a client address for the time d. A full set takes no new one.
func (m *addressMemory) keep(address string, now time.Time, d time.Duration) {
	if len(m.until) >= m.most && now.Sub(m.swept) >= sweepEvery {
		m.swept = now
		maps.DeleteFunc(m.until, func(_ string, until time.Time) bool { return !now.Before(until) })
	}
	if m.until == nil {
		m.until = map[string]time.Time{}
	}
	if _, kept := m.until[address]; kept || len(m.until) < m.most {
		m.until[address] = now.Add(d)
	}
}

// returnCounter counts the refused clients by the second in which they were told to retry.
type returnCounter struct {
	at     int64 // when count was last called, in Unix seconds
	counts [maxDelay/time.Second + 2]int
}

// count returns how many clients were told to retry later than now.
func (r *returnCounter) count(now time.Time) (n int) {
	size := int64(len(r.counts))
	for passed := min(now.Unix()-r.at, size); passed > 0; passed-- {
		r.counts[(now.Unix()-passed)%size] = 0
	}
	r.at = now.Unix()
	for _, count := range r.counts {
		n += count
	}
	return n
}

// add counts a client that was told to retry at the given time.
func (r *returnCounter) add(back time.Time) {
	if size := int64(len(r.counts)); back.Unix()-r.at < size {
		r.counts[back.Unix()%size]++
	}
}
