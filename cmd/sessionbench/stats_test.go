package main

import (
	"math"
	"slices"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for want, values := range map[float64][]float64{
		3:   {3},
		2:   {3, 1, 2},
		2.5: {4, 1, 3, 2},
	} {
		given := slices.Clone(values)
		if got := median(values); got != want {
			t.Errorf("median of %v is %v", values, got)
		}
		if !slices.Equal(given, values) {
			t.Errorf("median has sorted what it was given, %v", given)
		}
	}
	if !math.IsNaN(median(nil)) {
		t.Error("the median of nothing is a number")
	}
}

func TestPercentile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for p, want := range map[float64]time.Duration{0: 1, 1: 1, 50: 50, 99: 99, 99.5: 100, 100: 100} {
		if got := percentile(hundred, p); got != want {
			t.Errorf("percentile %v of 1 to 100 is %v", p, got)
		}
	}
	if got := percentile([]time.Duration{7}, 99); got != 7 {
		t.Errorf("percentile 99 of one value is %v", got)
	}
	if got := percentile(nil, 50); got != 0 {
		t.Errorf("percentile 50 of none is %v", got)
	}
}

// A round in which the whole machine was slow must not show.
func TestRatios(t *testing.T) {
	of, to := []float64{50, 5, 60}, []float64{100, 10, 100}
	s := spreadOf(ratios(of, to))
	if s != (spread{Median: 0.5, Least: 0.5, Most: 0.6}) {
		t.Errorf("%+v", s)
	}
}
