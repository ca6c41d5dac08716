package identity

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// BreachList knows passwords that were in a breach of some service. Safe for
// concurrent use.
type BreachList interface {
	// Contains tells whether the password is on it. Its errors, which quote
	// nothing of the password, mean that it could not be found out.
	Contains(ctx context.Context, password string) (bool, error)
}

// breachWarning is the least time between two warnings that the list is away.
const breachWarning = time.Minute

// checkBreached refuses a new password that is known to be breached: FieldErrors
// of the field "password". When the list is away that is [ErrUnavailable], if it
// is required. It is asked outside of transactions, and before the hash, which is
// dear.
func (s *Service) checkBreached(ctx context.Context, password string) error {
	if s.Breaches == nil {
		return nil
	}
	breached, err := s.Breaches.Contains(ctx, password)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("ask whether the password is breached: %w", ctx.Err())
	case err != nil:
		s.observer().Breached("unavailable")
		if s.BreachesRequired {
			return fmt.Errorf("%w: ask whether the password is breached: %w", ErrUnavailable, err)
		}
		if now := s.now(); s.breachesWarned.due(now) {
			s.Log.WarnContext(ctx, "new passwords are not checked for breaches at present", slog.Any("error", err))
		}
		return nil
	case breached:
		s.observer().Breached("yes")
		return invalidField("password", &problem{CodeBreached, "is known from a breach; choose another one"})
	}
	s.observer().Breached("no")
	return nil
}

// lastWarned is when a warning was given; zero: never.
type lastWarned struct{ micros atomic.Int64 }

// due tells one of those who ask at once to warn.
func (w *lastWarned) due(now time.Time) bool {
	last := w.micros.Load()
	return now.UnixMicro()-last >= breachWarning.Microseconds() && w.micros.CompareAndSwap(last, now.UnixMicro())
}
