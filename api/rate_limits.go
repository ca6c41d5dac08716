package api

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
// many requests wait, it refunds the charge, because the response tells the client to retry.
func (a *API) charged(q *request, action, email string, do func() error) error {
	refund, err := a.Users.Admit(q.Context(), action, email, origin(q))
	if err != nil {
		return err
	}
	if err = do(); err != nil {
		switch problemOf(err, nil).Code {
		case "unavailable", "busy":
			refund(q.Context())
		}
	}
	return err
}
