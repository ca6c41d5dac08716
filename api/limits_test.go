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

// What nothing came of by no fault of the caller does not count; all else does.
func TestWhatCountsAsATry(t *testing.T) {
	const most = 20 // registrations of an address
	for _, c := range []struct {
		err    error
		counts bool
	}{
		{nil, true},
		{identity.ErrUsernameTaken, true},
		{identity.ErrInvalidToken, true},
		{errMediaType, true},
		{errors.New("a fault of ours"), true},
		{context.Canceled, true}, // or who leaves early would be free of limits
		{fmt.Errorf("add a user: %w", identity.ErrUnavailable), false},
		{session.ErrUnavailable, false},
		{&identity.RetryError{After: time.Second, Err: identity.ErrBusy}, false},
		{context.DeadlineExceeded, false},
	} {
		a := &API{Users: &identity.Service{Now: time.Now, Limits: limit.NewFailover(limit.NewLocal(10), limit.NewLocal(10))}}
		h := a.limited(limit.ActionRegister, func(*request) (reply, error) { return reply{status: 200}, c.err })
		for range most {
			rep, err := h(&request{Request: httptest.NewRequest("POST", "/v1/users", nil)})
			if !errors.Is(err, c.err) || rep.status != 200 {
				t.Fatalf("%v became %+v, %v", c.err, rep, err)
			}
		}
		_, err := h(&request{Request: httptest.NewRequest("POST", "/v1/users", nil)})
		if limited := errors.Is(err, identity.ErrLimited); limited != c.counts {
			t.Errorf("%v: one more is refused: %t, want %t", c.err, limited, c.counts)
		}
	}
}
