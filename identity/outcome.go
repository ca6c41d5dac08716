package identity

import (
	"context"
	"errors"
)

// The actions whose outcomes an [Observer] receives.
const (
	actionLogin        = "login" // the check of the password, without the session
	actionRegistration = "registration"
	actionResetRequest = "reset_request"
	actionReset        = "reset"
)

const (
	outcomeSucceeded     = "succeeded"
	outcomeWrongPassword = "wrong_password" // also if the address is not confirmed
	outcomeUnknownUser   = "unknown_user"
	outcomeSuspended     = "suspended" // the password is right
	outcomeTaken         = "taken"     // another user has the username or email address
	outcomeInvalid       = "invalid"   // a field or a mailed token is not valid
	outcomeRefused       = "refused"   // by a setting, such as closed registration
	outcomeLimited       = "limited"   // by a rate limit
	outcomeBusy          = "busy"      // the queue of password hashes turned the client away
	outcomeCanceled      = "canceled"
	outcomeUnavailable   = "unavailable"
)

// Outcomes are the outcomes of each action that an [Observer] receives.
var Outcomes = map[string][]string{
	actionLogin: {
		outcomeSucceeded, outcomeWrongPassword, outcomeUnknownUser, outcomeSuspended, outcomeLimited, outcomeBusy, outcomeCanceled, outcomeUnavailable,
	},
	actionRegistration: {
		outcomeSucceeded, outcomeTaken, outcomeInvalid, outcomeRefused, outcomeLimited, outcomeBusy, outcomeCanceled, outcomeUnavailable,
	},
	actionResetRequest: {
		outcomeSucceeded, outcomeUnknownUser, outcomeInvalid, outcomeRefused, outcomeCanceled, outcomeUnavailable,
	},
	actionReset: {
		outcomeSucceeded, outcomeUnknownUser, outcomeInvalid, outcomeBusy, outcomeCanceled, outcomeUnavailable,
	},
}

// finished reports the outcome of an action that returned err.
func (s *Service) finished(action string, err error) { s.observer().Finished(action, outcome(err)) }

func outcome(err error) string {
	var fields FieldErrors
	switch {
	case err == nil:
		return outcomeSucceeded
	case errors.Is(err, ErrWrongPassword):
		return outcomeWrongPassword
	case errors.Is(err, ErrNotFound):
		return outcomeUnknownUser
	case errors.Is(err, ErrSuspended):
		return outcomeSuspended
	case errors.Is(err, ErrUsernameTaken), errors.Is(err, ErrEmailTaken):
		return outcomeTaken
	case errors.As(err, &fields), errors.Is(err, ErrInvalidToken):
		return outcomeInvalid
	case errors.Is(err, ErrRegistrationClosed), errors.Is(err, ErrMailDisabled):
		return outcomeRefused
	case errors.Is(err, ErrLimited):
		return outcomeLimited
	case errors.Is(err, ErrBusy):
		return outcomeBusy
	case errors.Is(err, context.Canceled):
		return outcomeCanceled
	default:
		return outcomeUnavailable
	}
}
