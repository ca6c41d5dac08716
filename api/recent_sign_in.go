package api

// recentSignIn returns a handler that refuses a request if the session's last password check is
// older than ReauthMaxAge, and otherwise calls h.
func (a *API) recentSignIn(h handler) handler {
	return func(q *request) (reply, error) {
		if err := a.checkRecentSignIn(q); err != nil {
			return reply{}, err
		}
		return h(q)
	}
}

func (a *API) checkRecentSignIn(q *request) error {
	if a.ReauthMaxAge > 0 && a.Now().Sub(q.claims.AuthTime) >= a.ReauthMaxAge {
		return errReauthenticate
	}
	return nil
}

type reauthenticateInput struct {
	Password string `json:"password" required:"true"`
}

// reauthenticate checks the password again and returns an access token with the time of this check.
// The access token of the request is revoked.
func (a *API) reauthenticate(q *request, in reauthenticateInput) (reply, error) {
	user, err := a.Users.Reauthenticate(q.Context(), q.claims.Subject, in.Password, origin(q))
	if err != nil {
		return reply{}, err
	}
	set, s, err := a.Sessions.Reauthenticate(q.Context(), q.claims, subject(user))
	return ok(showTokenSet(set, &s)), err
}
