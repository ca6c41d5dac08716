package identity

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// BreachList is a list of passwords that are known from data breaches. It is safe for concurrent use.
type BreachList interface {
	// Contains reports whether a password is on the list. An error means that the list did not answer. The
	// error never quotes the password.
	Contains(ctx context.Context, password string) (bool, error)
}

// checkBreached returns FieldErrors for the field "password" if a new password is on the list of breached
// passwords. If the list does not answer, it returns nil, or [ErrUnavailable] if BreachesRequired is set.
// Call it outside of transactions and before the expensive hash.
func (s *Service) checkBreached(ctx context.Context, password string) error {
	if s.Breaches == nil {
		return nil
	}
	breached, err := s.Breaches.Contains(ctx, password)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("check the password against the list of breached passwords: %w", ctx.Err())
	case err != nil:
		s.observer().Breached("unavailable")
		if s.BreachesRequired {
			return fmt.Errorf("%w: check the password against the list of breached passwords: %w", ErrUnavailable, err)
		}
		if s.breachWarning.due(s.now()) {
			s.Log.WarnContext(ctx, "new passwords are not checked for breaches, because the list of breached passwords does not answer", slog.Any("error", err))
		}
		return nil
	case breached:
		s.observer().Breached("yes")
		return invalidField("password", &problem{CodeBreached, "was in a data breach; choose another one"})
	}
	s.observer().Breached("no")
	return nil
}

// warning makes sure that a repeated warning is logged at most once a minute.
type warning struct {
	loggedAt atomic.Int64 // when the log line was last written, in Unix microseconds; 0 if never
}

// due reports whether to log the warning now. Of several concurrent callers, only one gets true.
func (w *warning) due(now time.Time) bool {
	last := w.loggedAt.Load()
	return now.UnixMicro()-last >= time.Minute.Microseconds() && w.loggedAt.CompareAndSwap(last, now.UnixMicro())
}
