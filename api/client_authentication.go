package api

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/sessiond/sessiond/identity/clients"
	"github.com/sessiond/sessiond/identity/limit"
)

var (
	// errClient means that a request did not carry the id and secret of a client.
	errClient = &errRequest{http.StatusUnauthorized, "invalid_client", "Authenticate by HTTP Basic with the id and secret of a client."}
	errScope  = &errRequest{http.StatusForbidden, "insufficient_scope", "The client does not have the scope that this request needs."}
)

// asClient returns a handler that calls h only if the request has the id and secret of a client with the
// scope.
func (a *API) asClient(scope clients.Scope, h handler) handler {
	return func(q *request) (reply, error) {
		if _, err := a.authenticateClient(q, scope); err != nil {
			return reply{}, err
		}
		return h(q)
	}
}

// authenticateClient checks the id and secret of a client in HTTP Basic. RFC 6749 section 2.3.1 requires that
// the client form-encodes both. Only wrong secrets are charged to the rate limits.
func (a *API) authenticateClient(q *request, scope clients.Scope) (clients.Client, error) {
	user, password, ok := q.BasicAuth()
	id, errID := url.QueryUnescape(user)
	secret, errSecret := url.QueryUnescape(password)
	if !ok || errID != nil || errSecret != nil || len(q.Header.Values("Authorization")) != 1 {
		return clients.Client{}, errClient
	}
	c, err := a.Clients.Authenticate(q.Context(), id, secret)
	switch {
	case errors.Is(err, clients.ErrUnknown):
		if _, err := a.Users.Admit(q.Context(), limit.ActionClient, "", origin(q)); err != nil {
			return clients.Client{}, err
		}
		return clients.Client{}, errClient
	case err != nil:
		return clients.Client{}, err
	case !c.May(scope):
		return clients.Client{}, errScope
	}
	logEntryOf(q.Request).subject = "client:" + c.ID
	return c, nil
}
