package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

func TestDriveCounts(t *testing.T) {
	from := &supply{requests: make([]request, 100), once: true}
	var asked atomic.Int64
	w, err := drive(t.Context(), 4, time.Minute, from, func(context.Context, int, *request) error {
		switch n := asked.Add(1); n % 10 {
		case 1:
			return fmt.Errorf("%w: number %d", errWrong, n)
		case 2:
			return errVanished
		case 3:
			return errDeclined
		default:
			return nil
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if asked.Load() != 100 || w.checks != 90 || w.wrong != 10 || w.vanished != 10 || w.declined != 10 || w.complaint == "" {
		t.Errorf("asked %d: %+v", asked.Load(), w)
	}
}

func TestDriveEndsInTime(t *testing.T) {
	from := &supply{requests: make([]request, 3)} // they go round
	begin := time.Now()
	w, err := drive(t.Context(), 2, 20*time.Millisecond, from, func(context.Context, int, *request) error { return nil })
	if err != nil || w.checks <= 3 || w.took < 20*time.Millisecond || time.Since(begin) > 10*time.Second {
		t.Errorf("%+v, %v", w, err)
	}
}

// A failure ends all callers, and is told.
func TestDriveFails(t *testing.T) {
	broken := errors.New("broken")
	from := &supply{requests: make([]request, 1)}
	_, err := drive(t.Context(), 8, time.Hour, from, func(_ context.Context, caller int, _ *request) error {
		if caller == 3 {
			return broken
		}
		return nil
	})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestDriveIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	from := &supply{requests: make([]request, 1)}
	_, err := drive(ctx, 2, time.Hour, from, func(context.Context, int, *request) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
