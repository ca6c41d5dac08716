package httpsuite

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// estimate is the median of samples, with a lower and an upper bound of the true median.
type estimate struct{ low, median, high time.Duration }

// estimateMedian returns the median of the samples, and two of the samples as bounds of the true
// median. The true median is outside these bounds with a probability of at most `miss`. This holds
// for any distribution, because the number of samples below the true median is binomial. The result
// `ok` is false if there are too few samples.
func estimateMedian(samples []time.Duration, miss float64) (e estimate, ok bool) {
	sorted := slices.Sorted(slices.Values(samples))
	n := len(sorted)
	rank := boundRank(n, miss)
	if rank == 0 {
		return estimate{}, false
	}
	return estimate{sorted[rank-1], (sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[n-rank]}, true
}

// boundRank returns the rank, among n sorted samples, of the sample that is a lower bound of the
// true median. The lowest sample has rank 1. The result is the largest rank whose sample is above
// the true median with a probability of at most miss/2. The result is 0 if n samples are too few.
func boundRank(n int, miss float64) int {
	below := 0.0 // the probability that fewer than `rank` samples are below the true median
	for rank := 1; rank <= n/2; rank++ {
		below += math.Exp(logChoose(n, rank-1) - float64(n)*math.Ln2)
		if below > miss/2 {
			return rank - 1
		}
	}
	return n / 2
}

// logChoose returns the natural logarithm of the binomial coefficient "n choose k".
func logChoose(n, k int) float64 {
	gamma := func(x int) float64 { v, _ := math.Lgamma(float64(x + 1)); return v }
	return gamma(n) - gamma(k) - gamma(n-k)
}

// difference returns a lower and an upper bound of the difference between two medians. The bounds
// are correct if the bounds of both estimates are correct.
func difference(a, b estimate) (low, high time.Duration) { return a.low - b.high, a.high - b.low }

// The wanted ranks are from published tables of the sign test for a confidence of 95 %.
func TestBoundRank_MatchesTablesOfSignTest(t *testing.T) {
	for n, want := range map[int]int{1: 0, 5: 0, 6: 1, 8: 1, 9: 2, 10: 2, 12: 3, 15: 4, 20: 6, 25: 8, 50: 18, 100: 40} {
		if got := boundRank(n, 0.05); got != want {
			t.Errorf("%d samples: rank %d, want %d", n, got, want)
		}
	}
	if got := boundRank(2000, 1); got != 1000 {
		t.Errorf("for a miss probability of 1: rank %d of 2000, want 1000", got)
	}
}

func TestEstimateMedian_ReturnsTwoSamplesAsBoundsOfMedian(t *testing.T) {
	if _, ok := estimateMedian([]time.Duration{1, 2, 3, 4, 5}, 0.05); ok {
		t.Error("estimateMedian accepts five samples, want too few")
	}
	even, _ := estimateMedian([]time.Duration{60, 10, 20, 30, 50, 40}, 0.05)
	if want := (estimate{10, 35, 60}); even != want {
		t.Errorf("got %v, want %v", even, want)
	}
	odd, _ := estimateMedian([]time.Duration{9, 1, 8, 2, 7, 3, 6, 4, 5}, 0.05)
	if want := (estimate{2, 5, 8}); odd != want {
		t.Errorf("got %v, want %v", odd, want)
	}
	if low, high := difference(even, odd); low != 2 || high != 58 {
		t.Errorf("the difference is %v to %v, want 2 to 58", low, high)
	}
}

// The test simulates response times, a few of which are very long. It uses the same random numbers
// in every run.
func TestEstimateMedian_BoundsContainTrueMedianInAtLeast94PercentOfRuns(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	latency := func() time.Duration { return time.Duration(random.ExpFloat64() * float64(time.Millisecond)) }
	truth := 693147 * time.Nanosecond // the true median of the simulated response times, which is ln 2 ms
	const rounds = 2000
	missed, different := 0, 0
	for range rounds {
		a, b := make([]time.Duration, 101), make([]time.Duration, 101)
		for i := range a {
			a[i], b[i] = latency(), latency()
		}
		ea, _ := estimateMedian(a, 0.05)
		eb, _ := estimateMedian(b, 0.05)
		if truth < ea.low || truth > ea.high {
			missed++
		}
		if low, high := difference(ea, eb); low > 0 || high < 0 {
			different++
		}
	}
	if missed > rounds*6/100 || missed == 0 {
		t.Errorf("%d of %d bounds miss the median, want 1 to 6 %%", missed, rounds)
	}
	if different > rounds*5/100 {
		t.Errorf("%d of %d pairs with the same median seem different, want at most 5 %%", different, rounds)
	}
}
