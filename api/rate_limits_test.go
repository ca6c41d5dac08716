package api

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/session"
)

func TestRateLimit_RefundsChargeIfServiceFailedOrFieldIsInvalid(t *testing.T) {
	const burst = 20 // how many registrations the rate limit allows one client address at once
	for _, c := range []struct {
		name    string
		err     error
		charged bool
	}{
		{"charges a successful request", nil, true},
		{"charges a request with a taken username", identity.ErrUsernameTaken, true},
		{"charges a request with an invalid token", identity.ErrInvalidToken, true},
		{"charges a request with a wrong media type", errMediaType, true},
		{"charges a request whose password a service knows as breached", fmt.Errorf("register: %w", identity.FieldErrors{{Field: "password", Code: identity.CodeBreached}}), true},
		{"charges a request that ends in an internal error", errors.New("internal"), true},
		// Cancelled requests are charged, because otherwise a client that cancels all its requests
		// would have no limit.
		{"charges a cancelled request", context.Canceled, true},
		{"refunds a request with an invalid field", fmt.Errorf("register: %w", identity.FieldErrors{{Field: "password", Code: identity.CodeTooShort}}), false},
		{"refunds when the user store is down", fmt.Errorf("add a user: %w", identity.ErrUnavailable), false},
		{"refunds when the session store is down", session.ErrUnavailable, false},
		{"refunds when too many requests wait", &identity.RetryError{After: time.Second, Err: identity.ErrBusy}, false},
		{"refunds when the request timed out", context.DeadlineExceeded, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := &API{Users: &identity.Service{Now: time.Now, Limits: limit.NewFailover(limit.NewLocal(10), limit.NewLocal(10))}}
			h := a.limited(limit.ActionRegister, func(*request) (reply, error) { return reply{status: 200}, c.err })
			call := func() (reply, error) { return h(&request{Request: httptest.NewRequest("POST", "/v1/users", nil)}) }
			for range burst {
				rep, err := call()
				if !errors.Is(err, c.err) || rep.status != 200 {
					t.Fatalf("got reply %+v and error %v, want those of the handler", rep, err)
				}
			}
			_, err := call()
			if refused := errors.Is(err, identity.ErrLimited); refused != c.charged {
				t.Errorf("after %d calls, the rate limit refuses the next call: %t, want %t", burst, refused, c.charged)
			}
		})
	}
}
