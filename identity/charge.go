package identity

import (
	"context"
	"errors"
	"log/slog"

	"github.com/sessiond/sessiond/identity/limit"
)

// Admit charges an action of a client to the rate limits (see package limit), or returns ErrLimited in a
// [RetryError]. The parameter email is the address that a password reset sends mail to. If the action then
// fails because of a fault of the server, the caller must call refund to undo the charge.
func (s *Service) Admit(ctx context.Context, action, email string, from Origin) (refund func(context.Context), err error) {
	email = FoldEmail(email)
	c := s.newCharge(action, email, from, s.rules().Keys(action, from.IP, email)...)
	return c.refund, c.charge(ctx)
}

// rules returns the rules of the rate limits. Without limits it returns rules that nobody charges.
func (s *Service) rules() *limit.Rules {
	if s.Limits == nil {
		return &limit.Rules{}
	}
	return &s.Limits.Rules
}

// charge charges one action of a client to the rate limits, and can refund the charge.
type charge struct {
	s        *Service
	action   string
	account  string // folded login name, or user id; empty if the action names no account
	from     Origin
	keys     []limit.Key
	decision limit.Decision // what the rate limits decided; the zero value until they allow the action
}

func (s *Service) newCharge(action, account string, from Origin, keys ...limit.Key) *charge {
	return &charge{s: s, action: action, account: account, from: from, keys: keys}
}

// charge charges the action to the rate limits, or returns ErrLimited in a [RetryError].
func (c *charge) charge(ctx context.Context) error {
	if c.s.Limits == nil {
		return nil
	}
	d := c.s.Limits.Charge(ctx, c.s.now(), c.keys)
	c.s.observer().Limited(c.action, d.Allowed, !d.Local)
	if c.from.Quota != nil {
		*c.from.Quota = d
	}
	if !d.Allowed {
		c.s.observer().Refused(d.Tightest.Rule, c.account, limit.Network(c.from.IP))
		return &RetryError{After: d.RetryAfter, Err: ErrLimited}
	}
	c.decision = d
	return nil
}

// settle refunds the charge of a login, unless the login failed because of a wrong password or an unknown
// user. The parameter outcome is the error with which the login failed, or nil.
func (c *charge) settle(ctx context.Context, outcome error) {
	wrong := errors.Is(outcome, ErrWrongPassword) || errors.Is(outcome, ErrNotFound) || errors.Is(outcome, errUnrecorded)
	if !wrong {
		c.refund(ctx)
	}
}

// refund undoes the charge. It does nothing if nothing was charged.
func (c *charge) refund(ctx context.Context) {
	if !c.decision.Allowed {
		return
	}
	if err := c.s.Limits.Refund(ctx, c.s.now(), c.decision, c.keys); err != nil {
		c.s.Log.DebugContext(ctx, "a charge to a rate limit was not refunded", slog.Any("error", err))
	}
}

// clearGuesses removes wrong passwords from the rate limits of a user who just reset the password by mail.
func (s *Service) clearGuesses(ctx context.Context, u User, from Origin) {
	if s.Limits == nil {
		return
	}
	var keys []limit.Key
	for _, login := range []string{u.Username, u.Email} {
		keys = append(keys, s.rules().Guesses(foldLogin(login), from.IP)...)
	}
	if err := s.Limits.Clear(ctx, keys); err != nil {
		s.Log.DebugContext(ctx, "wrong passwords from before the reset still count", slog.Any("error", err))
	}
}
