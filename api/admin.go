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

// adminRoutes adds the routes of /v1/admin. They are for users with the role admin, and for machine clients with
// the scope admin:read or admin:write. All routes that change something are of the scope admin:write.
func (a *API) adminRoutes(r chi.Router) {
	read := func(h handler, o ...override) http.HandlerFunc { return a.forOperators(clients.AdminRead, h, o...) }
	write := func(h handler, o ...override) http.HandlerFunc { return a.forOperators(clients.AdminWrite, h, o...) }
	get(r, "/v1/admin/users", read(strictQuery(a.findUsers)))
	r.Post("/v1/admin/users", write(jsonBody(a.createAccount)))
	get(r, "/v1/admin/users/{id}", read(a.getAccount))
	r.Patch("/v1/admin/users/{id}", write(jsonBody(a.updateAccount)))
	r.Delete("/v1/admin/users/{id}", write(strictQuery(a.deleteOtherAccount)))
	r.Post("/v1/admin/users/{id}/suspend", write(jsonBody(a.suspendAccount)))
	r.Post("/v1/admin/users/{id}/reinstate", write(jsonBody(a.reinstateAccount)))
	r.Post("/v1/admin/users/{id}/password-reset", write(jsonBody(a.sendPasswordReset)))
	get(r, "/v1/admin/users/{id}/sessions", read(paged(a.listSessionsOf)))
	r.Delete("/v1/admin/users/{id}/sessions", write(strictQuery(a.revokeSessionsOf)))
	get(r, "/v1/admin/users/{id}/logins", read(paged(a.listLoginsOf)))
	get(r, "/v1/admin/sessions", read(strictQuery(a.searchSessions)))
	r.Delete("/v1/admin/sessions/{id}", write(strictQuery(a.revokeAnySession)))
	r.Post("/v1/admin/revocations", write(jsonBody(a.revokeByFilter)))
	get(r, "/v1/admin/revocations/{id}", read(a.getRevocation, on(issuer.ErrNotFound, 404)))
	get(r, "/v1/admin/events", read(strictQuery(a.listEvents)))
	get(r, "/v1/admin/stats", read(a.getStats))
}

// forOperators serves a handler to users with the role admin and to machine clients with the scope. Users need
// a recent sign-in for the scope admin:write.
func (a *API) forOperators(scope clients.Scope, h handler, o ...override) http.HandlerFunc {
	return a.serve(func(q *request) (reply, error) {
		act, err := a.authorizeOperator(q, scope)
		if err != nil {
			return reply{}, err
		}
		q.act = act
		return h(q)
	}, a.writeProblem(o, false))
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
