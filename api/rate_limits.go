package api

import (
	"errors"
	"slices"

	"github.com/sessiond/sessiond/identity"
)

// limited returns a handler that calls h only if the rate limits of the action admit the request.
func (a *API) limited(action string, h handler) handler {
	return func(q *request) (rep reply, err error) {
		err = a.charged(q, action, "", func() (err error) {
			rep, err = h(q)
			return err
		})
		return rep, err
	}
}

// charged charges the rate limits of an action and then calls do. If a dependency is down or too
// many requests wait, it refunds the charge, because the response tells the client to retry. It also
// refunds the charge of a request with an invalid field, because people correct a form several times.
func (a *API) charged(q *request, action, email string, do func() error) error {
	refund, err := a.Users.Admit(q.Context(), action, email, origin(q))
	if err != nil {
		return err
	}
	if err = do(); err != nil {
		switch problemOf(err, nil).Code {
		case "unavailable", "busy":
			refund(q.Context())
		case "invalid_request":
			if !isBreached(err) {
				refund(q.Context())
			}
		}
	}
	return err
}

// isBreached reports whether a password was refused because a service knows it as breached. Such a
// request is charged, because it made the service answer one.
func isBreached(err error) bool {
	var fields identity.FieldErrors
	return errors.As(err, &fields) && slices.ContainsFunc(fields, func(f identity.FieldError) bool { return f.Code == identity.CodeBreached })
}
