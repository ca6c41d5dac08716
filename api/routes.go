package api

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/session/issuer"
)

// Handler returns the whole service: the gateway check, and everything else.
func (a *API) Handler() http.Handler {
	check, others := a.gatewayCheck(), a.routes()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isGatewayCheck(r.URL.Path) {
			check.ServeHTTP(w, r)
		} else {
			others.ServeHTTP(w, r)
		}
	})
}

// routes are all but the gateway check, which is of any method, those that chi
// does not know too. They are on this screen, with the statuses in which they
// depart from the error table of problem.go.
func (a *API) routes() chi.Router {
	r := chi.NewRouter()
	every := a.middleware()
	r.NotFound(every.HandlerFunc(a.plain(notFound)).ServeHTTP)
	r.MethodNotAllowed(every.HandlerFunc(a.plain(methodNotAllowed(r))).ServeHTTP)
	r.Group(func(r chi.Router) {
		r.Use(every...)
		a.classic(r, "")
		a.classic(r, "/api/v1")
		a.recommended(r)
	})
	return r
}

// recommended are the routes for new clients.
func (a *API) recommended(r chi.Router) {
	r.Post("/v1/users", a.open(a.limited(limit.ActionRegister, a.registerByMail)))
	r.Post("/v1/users/verify", a.open(a.limited(limit.ActionMailedToken, a.verifyEmail), on(identity.ErrInvalidToken, 404)))
	r.Get("/v1/users/me", a.signedIn(a.showMe))
	r.Patch("/v1/users/me", a.signedIn(a.updateMe))
	r.Delete("/v1/users/me", a.signedIn(a.fresh(a.deleteMe)))
	r.Put("/v1/users/me/password", a.signedIn(a.fresh(a.changeMyPassword), on(identity.ErrWrongPassword, 403)))
	r.Post("/v1/sessions", a.open(a.startSession))
	r.Get("/v1/sessions", a.signedIn(a.listSessions))
	r.Delete("/v1/sessions", a.signedIn(a.endSessions))
	r.Get("/v1/sessions/current", a.signedIn(a.showCurrent))
	r.Delete("/v1/sessions/current", a.signedIn(a.endCurrent))
	r.Post("/v1/sessions/current/reauthenticate", a.signedIn(a.reauthenticate, on(identity.ErrWrongPassword, 403)))
	r.Delete("/v1/sessions/{id}", a.signedIn(a.endSession))
	r.Get("/v1/logins", a.signedIn(a.listLogins))
	r.Post("/v1/password-resets", a.open(a.requestReset))
	r.Post("/v1/password-resets/check", a.open(a.limited(limit.ActionMailedToken, a.checkReset), on(identity.ErrInvalidToken, 404)))
	r.Post("/v1/password-resets/complete", a.open(a.limited(limit.ActionMailedToken, a.completeReset), on(identity.ErrInvalidToken, 404)))

	r.Post("/oauth/token", a.oauth(a.limited(limit.ActionRefresh, a.refresh)))
	r.Post("/oauth/revoke", a.oauth(a.revoke))
	r.Post("/oauth/introspect", a.oauth(a.introspect))
	r.Get("/.well-known/jwks.json", a.open(a.jwks))
	r.Get("/.well-known/oauth-authorization-server", a.open(a.serverMetadata))

	r.Get("/livez", a.open(live))
	r.Get("/readyz", a.open(a.ready))
	r.Get("/openapi.json", a.plain(serveOpenAPI))
	r.Get("/docs", a.plain(serveDocs))
	r.Get("/verify", a.plain(serveVerify))
	if a.Mailbox != nil {
		r.Get("/dev/mail", a.open(a.devMail))
	}
}

// classic are the routes that existing clients use, under a prefix.
func (a *API) classic(r chi.Router, prefix string) {
	badPassword := 403
	if a.HideAccounts {
		badPassword = 401
	}
	r.Post(prefix+"/registerUser", a.openClassic(a.limited(limit.ActionRegister, a.registerUser), on(identity.ErrUsernameTaken, 403), on(identity.ErrEmailTaken, 403)))
	r.Post(prefix+"/loginUser", a.openClassic(a.loginUser, on(identity.ErrNotFound, 401), on(issuer.ErrSubjectGone, 401),
		on(identity.ErrWrongPassword, badPassword), on(issuer.ErrCredentialChanged, badPassword), on(issuer.ErrTooManySessions, 403)))
	r.Delete(prefix+"/logout", a.signedInClassic(a.logout))
	r.Get(prefix+"/findUser", a.signedInClassic(a.findUser, on(identity.ErrNotFound, 401)))
	r.Put(prefix+"/updateUser", a.signedInClassic(a.updateUser, on(identity.ErrNotFound, 401), on(identity.ErrEmailTaken, 403)))
	r.Delete(prefix+"/deleteUser", a.signedInClassic(a.deleteUser))
	r.Post(prefix+"/forgotPassword", a.openClassic(a.forgotPassword, on(identity.ErrNotFound, 403)))
	r.Get(prefix+"/reset", a.openClassic(a.limited(limit.ActionMailedToken, a.showReset), on(identity.ErrInvalidToken, 403)))
	r.Put(prefix+"/updatePassword", a.signedInClassic(a.updatePassword, on(identity.ErrWrongPassword, 403), on(identity.ErrPasswordChanged, 403)))
	r.Put(prefix+"/updatePasswordViaEmail", a.openClassic(a.limited(limit.ActionMailedToken, a.updatePasswordViaEmail), on(identity.ErrNotFound, 401), on(identity.ErrInvalidToken, 403)))
	r.Get(prefix+"/user/logins/show", a.signedInClassic(a.showLogins))
	r.Get(prefix+"/user/logins/delete/{login_id}", a.signedInClassic(a.deleteLogin, on(issuer.ErrNotFound, 400)))
	r.Get(prefix+"/user/logins/delete/all/not-current", a.signedInClassic(a.deleteOtherLogins))
	r.Get(prefix+"/user/logins/deletes/all", a.signedInClassic(a.deleteAllLogins))
}
