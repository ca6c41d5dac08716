package identity

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// BreachList knows passwords that were in a breach of some service. It is safe for concurrent use.
type BreachList interface {
	// Contains reports whether a password is on the list. An error means that this is unknown. It quotes
	// nothing of the password.
	Contains(ctx context.Context, password string) (bool, error)
}

// checkBreached returns FieldErrors for the field "password" if a new password was breached. If the list
// does not answer, it returns [ErrUnavailable] when the list is required. Callers use it outside of
// transactions and before the expensive hash.
func (s *Service) checkBreached(ctx context.Context, password string) error {
	if s.Breaches == nil {
		return nil
	}
	breached, err := s.Breaches.Contains(ctx, password)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("check whether the password was breached: %w", ctx.Err())
	case err != nil:
		s.observer().Breached("unavailable")
		if s.BreachesRequired {
			return fmt.Errorf("%w: check whether the password was breached: %w", ErrUnavailable, err)
		}
		if s.breachWarning.due(s.now()) {
			s.Log.WarnContext(ctx, "new passwords are not checked for breaches at present", slog.Any("error", err))
		}
		return nil
	case breached:
		s.observer().Breached("yes")
		return invalidField("password", &problem{CodeBreached, "was in a data breach; choose another one"})
	}
	s.observer().Breached("no")
	return nil
}

// warning is a warning that is logged at most once per minute.
type warning struct {
	loggedAt atomic.Int64 // Unix microseconds; 0: never
}

// due reports whether to log the warning now. Of concurrent callers, one gets true.
func (w *warning) due(now time.Time) bool {
	last := w.loggedAt.Load()
	return now.UnixMicro()-last >= time.Minute.Microseconds() && w.loggedAt.CompareAndSwap(last, now.UnixMicro())
}
