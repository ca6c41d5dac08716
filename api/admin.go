package api

import (
	"context"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/audit"
	"github.com/sessiond/sessiond/identity/clients"
	"github.com/sessiond/sessiond/session/issuer"
)

var errNotAdministrator = &errRequest{http.StatusForbidden, "not_administrator", "This needs the role admin."}

// forOperators serves a handler to users with the role admin and to machine clients with the scope. Users need
// a recent sign-in for the scope admin:write.
func (a *API) forOperators(scope clients.Scope, h handler) http.HandlerFunc {
	return a.serve(func(q *request) (reply, error) {
		act, err := a.authorizeOperator(q, scope)
		if err != nil {
			return reply{}, err
		}
		q.act = act
		return h(q)
	}, a.writeProblem(nil, false))
}

func (a *API) authorizeOperator(q *request, scope clients.Scope) (audit.Act, error) {
	if _, _, basic := q.BasicAuth(); basic {
		c, err := a.authenticateClient(q, scope)
		return audit.Act{Actor: audit.ByClient, ActorID: c.ID, Address: clientIP(q.Request)}, err
	}
	var err error
	if q.claims, err = a.authenticate(q.Request); err != nil {
		return audit.Act{}, err
	}
	// The roles are those of this moment, and not those of when the token was signed.
	if !q.claims.Roles.Has(identity.RoleAdmin) {
		return audit.Act{}, errNotAdministrator
	}
	if scope == clients.AdminWrite {
		err = a.checkRecentSignIn(q)
	}
	return audit.Act{Actor: audit.ByAdministrator, ActorID: q.claims.Subject, Address: clientIP(q.Request)}, err
}

// acting returns a context by which the stores record who does something, and the reason.
func (q *request) acting(reason string) (context.Context, error) {
	act := q.act
	act.Reason = reason
	return audit.With(q.Context(), act), identity.CheckReason(reason)
}

// reasonInput is the input of a route that needs nothing but the reason.
type reasonInput struct {
	Reason string `json:"reason"`
}

// pathID returns the id in the path. A text that cannot be an id is nobody's.
func pathID(q *request, notFound error) (string, error) {
	id := chi.URLParam(q.Request, "id")
	if !issuer.ValidID(id) {
		return "", notFound
	}
	return id, nil
}
