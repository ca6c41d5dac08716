package api

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/clients"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/session/issuer"
)

// Handler returns the HTTP handler of all routes, including the gateway check /v1/verify.
func (a *API) Handler() http.Handler {
	check, others := a.gatewayCheck(), a.routes()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.Mailbox != nil && !isLoopbackHost(r.Host) {
			a.writeProblem(nil, false)(w, r, errMisdirected)
			return
		}
		if !isGatewayCheck(r.URL.Path) {
			serveRoutes(others, w, r)
			return
		}
		if r.ContentLength != 0 {
			ignoreBody(w)
		}
		check.ServeHTTP(w, r)
	})
}

// AdminHandler returns the HTTP handler of the routes for operators alone, for a listener of its own.
func (a *API) AdminHandler() http.Handler {
	routes := a.router(func(r chi.Router) {
		a.adminRoutes(r)
		a.livenessRoute(r)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serveRoutes(routes, w, r) })
}

func (a *API) livenessRoute(r chi.Router) {
	get(r, "/livez", a.serve(a.getLiveness, a.writeProblem(nil, false)))
}

func serveRoutes(routes http.Handler, w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		ignoreBody(w)
	}
	routes.ServeHTTP(w, withoutTrailingSlash(r))
}

// ignoreBody makes net/http respond before it has read the request body, which the client may never
// send. The rest of the connection is then unusable.
func ignoreBody(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	_ = http.NewResponseController(w).EnableFullDuplex() // a test's ResponseWriter may not support it
}

// withoutTrailingSlash returns the request for the path without a slash at its end. The one exception
// is DELETE /v1/sessions/. A client that wants to revoke one session and whose variable for the id is
// empty sends this request, and must not revoke all sessions.
func withoutTrailingSlash(r *http.Request) *http.Request {
	path := cmp.Or(r.URL.RawPath, r.URL.Path)
	if len(path) < 2 || !strings.HasSuffix(path, "/") || r.Method == http.MethodDelete && path == "/v1/sessions/" {
		return r
	}
	trimmed, target := *r, *r.URL
	target.Path, target.RawPath = strings.TrimSuffix(target.Path, "/"), strings.TrimSuffix(target.RawPath, "/")
	trimmed.URL = &target
	return &trimmed
}

// get adds a route for GET and HEAD. A route that changes something by GET must not use get.
func get(r chi.Router, pattern string, h http.HandlerFunc) {
	r.Get(pattern, h)
	r.Head(pattern, h)
}

// routes returns all routes except /v1/verify, which accepts methods that the router chi does not
// know. A route calls [on] to give an error another status than errorTable does.
func (a *API) routes() chi.Router {
	return a.router(func(r chi.Router) {
		if a.ClassicRoutes != ClassicOff {
			a.classicRoutes(r, "", "/api/v1")
		}
		a.v1Routes(r)
		if !a.AdminElsewhere {
			a.adminRoutes(r)
		}
	})
}

// router returns a router with the routes that add adds.
func (a *API) router(add func(chi.Router)) chi.Router {
	r := chi.NewRouter()
	// Every request passes through these middlewares, in the order of this list.
	every := chi.Middlewares{a.observe, timeout, a.cors}
	noRoute := every.HandlerFunc(a.plain(notFound(r))).ServeHTTP
	r.NotFound(noRoute)
	r.MethodNotAllowed(noRoute)
	r.Group(func(r chi.Router) {
		r.Use(every...)
		add(r)
	})
	return r
}

// v1Routes adds the routes of /v1 and /oauth, the health checks and the documents.
func (a *API) v1Routes(r chi.Router) {
	open := func(h handler, o ...override) http.HandlerFunc { return a.serve(h, a.writeProblem(o, false)) }
	signedIn := func(h handler, o ...override) http.HandlerFunc { return open(a.authenticated(h), o...) }
	oauth := func(h handler) http.HandlerFunc { return a.serve(h, a.writeOAuthError) }
	r.Post("/v1/users", open(a.limited(limit.ActionRegister, jsonBody(a.createUser))))
	r.Post("/v1/users/verify", open(a.limited(limit.ActionMailedToken, jsonBody(a.verifyEmail)), on(identity.ErrInvalidToken, 404), on(identity.ErrWrongPassword, 403)))
	get(r, "/v1/users/me", signedIn(a.getMe))
	r.Patch("/v1/users/me", signedIn(jsonBody(a.updateMe)))
	r.Delete("/v1/users/me", signedIn(a.recentSignIn(a.deleteMe)))
	r.Post("/v1/users/me/email-confirmations", signedIn(a.resendConfirmation))
	r.Post("/v1/email-changes/undo", open(a.limited(limit.ActionMailedToken, jsonBody(a.undoEmailChange)), on(identity.ErrInvalidToken, 404)))
	get(r, "/v1/email-changes/undo", getUndoPage)
	get(r, "/v1/users/me/export", a.plain(a.exportMe))
	r.Put("/v1/users/me/password", signedIn(a.recentSignIn(jsonBody(a.changePassword)), on(identity.ErrWrongPassword, 403)))
	r.Post("/v1/sessions", open(jsonBody(a.createSession)))
	get(r, "/v1/sessions", signedIn(paged(a.listSessions)))
	r.Delete("/v1/sessions", signedIn(a.deleteSessions))
	get(r, "/v1/sessions/current", signedIn(a.getCurrentSession))
	r.Delete("/v1/sessions/current", signedIn(a.deleteCurrentSession))
	r.Post("/v1/sessions/current/reauthenticate", signedIn(jsonBody(a.reauthenticate), on(identity.ErrWrongPassword, 403)))
	r.Delete("/v1/sessions/{id}", signedIn(a.deleteSession))
	get(r, "/v1/logins", signedIn(paged(a.listLogins)))
	r.Post("/v1/password-resets", open(jsonBody(a.requestPasswordReset)))
	r.Post("/v1/password-resets/check", open(a.limited(limit.ActionMailedToken, jsonBody(a.checkPasswordReset)), on(identity.ErrInvalidToken, 404)))
	r.Post("/v1/password-resets/complete", open(a.limited(limit.ActionMailedToken, jsonBody(a.completePasswordReset)), on(identity.ErrInvalidToken, 404)))

	r.Post("/oauth/token", oauth(a.limited(limit.ActionRefresh, oauthForm(a.refreshToken))))
	r.Post("/oauth/revoke", oauth(oauthForm(a.revokeToken)))
	r.Post("/oauth/introspect", oauth(a.asClient(clients.Introspect, oauthForm(a.introspectToken))))
	get(r, "/.well-known/jwks.json", open(a.getJWKS))
	get(r, "/.well-known/sessiond-epochs", open(a.getEpochs))
	get(r, "/.well-known/oauth-authorization-server", open(a.getServerMetadata))
	if path := a.issuerPath(); path != "" {
		get(r, "/.well-known/oauth-authorization-server"+path, open(a.getServerMetadata))
	}

	a.livenessRoute(r)
	get(r, "/readyz", open(a.getReadiness))
	docs := documents{openAPI, docsPage}.ofVersion(cmp.Or(a.Version, documentVersion))
	if a.ClassicRoutes == ClassicOff {
		docs = docs.withoutClassicRoutes()
	}
	get(r, "/openapi.json", docs.getOpenAPI)
	get(r, "/docs", docs.getPage)
	get(r, "/verify", getVerifyPage)
	if a.Mailbox != nil {
		get(r, "/dev/mail", open(a.getDevMail))
	}
}

// adminRoutes adds the routes of /v1/admin. They are for users with the role admin, and for machine clients with
// the scope admin:read or admin:write. All routes that change something are of the scope admin:write.
func (a *API) adminRoutes(r chi.Router) {
	read := func(h handler) http.HandlerFunc { return a.forOperators(clients.AdminRead, h) }
	write := func(h handler) http.HandlerFunc { return a.forOperators(clients.AdminWrite, h) }
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
	get(r, "/v1/admin/revocations/{id}", read(a.getRevocation))
	get(r, "/v1/admin/events", read(strictQuery(a.listEvents)))
	get(r, "/v1/admin/stats", read(a.getStats))
}

// classicRoutes adds the routes for clients older than /v1, once under each path prefix.
func (a *API) classicRoutes(r chi.Router, prefixes ...string) {
	open := func(h handler, o ...override) http.HandlerFunc { return a.serve(h, a.writeProblem(o, true)) }
	signedIn := func(h handler, o ...override) http.HandlerFunc { return open(a.authenticated(h), o...) }
	wrongPassword := 403
	if a.HideAccounts {
		wrongPassword = 401
	}
	for _, p := range prefixes {
		r.Post(p+"/registerUser", open(a.limited(limit.ActionRegister, jsonOrForm(a.registerUser)), on(identity.ErrUsernameTaken, 403), on(identity.ErrEmailTaken, 403)))
		r.Post(p+"/loginUser", open(jsonOrForm(a.loginUser), on(identity.ErrNotFound, 401), on(issuer.ErrSubjectGone, 401),
			on(identity.ErrWrongPassword, wrongPassword), on(issuer.ErrCredentialChanged, wrongPassword), on(issuer.ErrTooManySessions, 403)))
		r.Delete(p+"/logout", signedIn(a.logout))
		get(r, p+"/findUser", signedIn(queryParams(a.findUser), on(identity.ErrNotFound, 401)))
		r.Put(p+"/updateUser", signedIn(jsonOrForm(a.updateUser), on(identity.ErrNotFound, 401), on(identity.ErrEmailTaken, 403), on(identity.ErrWrongPassword, 403)))
		r.Delete(p+"/deleteUser", signedIn(queryParams(a.deleteUser), on(identity.ErrWrongPassword, 403)))
		r.Post(p+"/forgotPassword", open(jsonOrForm(a.forgotPassword), on(identity.ErrNotFound, 403)))
		get(r, p+"/reset", open(a.limited(limit.ActionMailedToken, queryParams(a.checkReset)), on(identity.ErrInvalidToken, 403)))
		r.Put(p+"/updatePassword", signedIn(jsonOrForm(a.updatePassword), on(identity.ErrWrongPassword, 403), on(identity.ErrPasswordChanged, 403)))
		r.Put(p+"/updatePasswordViaEmail", open(a.limited(limit.ActionMailedToken, jsonOrForm(a.updatePasswordViaEmail)),
			on(identity.ErrNotFound, 401), on(identity.ErrInvalidToken, 403)))
		get(r, p+"/user/logins/show", signedIn(a.listUserLogins))
		r.Get(p+"/user/logins/delete/{login_id}", signedIn(a.deleteUserLogin, on(issuer.ErrNotFound, 400)))
		r.Get(p+"/user/logins/delete/all/not-current", signedIn(a.deleteOtherUserLogins))
		r.Get(p+"/user/logins/deletes/all", signedIn(a.deleteAllUserLogins, on(identity.ErrWrongPassword, 403), on(identity.ErrNotFound, 401)))
	}
}
