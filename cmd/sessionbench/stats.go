package main

import (
	"math"
	"slices"
	"time"
)

// percentile of sorted values, by nearest rank; 0 when there are none.
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}

// median is NaN when there are none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// spread is the median of values with the least and the greatest of them.
type spread struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

func spreadOf(values []float64) spread {
	return spread{median(values), slices.Min(values), slices.Max(values)}
}

// ratios divides round by round: what disturbs the machine for a while disturbs
// both sides of the same round.
func ratios(of, to []float64) []float64 {
	n := min(len(of), len(to))
	r := make([]float64, n)
	for i := range n {
		r[i] = of[i] / to[i]
	}
	return r
}
