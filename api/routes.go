package api

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/session/issuer"
)

// Handler returns the whole service: the gateway check and all other routes.
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

// routes returns all routes except the gateway check, which takes methods that chi does not know.
// They are on this screen, with the statuses that differ from the error table in problem.go.
func (a *API) routes() chi.Router {
	r := chi.NewRouter()
	// Every request passes these, outermost first.
	every := chi.Middlewares{a.trustProxies, a.observe, timeout, secure, a.cors}
	r.NotFound(every.HandlerFunc(a.plain(notFound)).ServeHTTP)
	r.MethodNotAllowed(every.HandlerFunc(a.plain(methodNotAllowed(r))).ServeHTTP)
	r.Group(func(r chi.Router) {
		r.Use(every...)
		a.classicRoutes(r, "", "/api/v1")
		a.v1Routes(r)
	})
	return r
}

// v1Routes adds the routes for new clients.
func (a *API) v1Routes(r chi.Router) {
	r.Post("/v1/users", a.open(a.limited(limit.ActionRegister, jsonBody(a.createUser))))
	r.Post("/v1/users/verify", a.open(a.limited(limit.ActionMailedToken, jsonBody(a.verifyEmail)), on(identity.ErrInvalidToken, 404)))
	r.Get("/v1/users/me", a.signedIn(a.getMe))
	r.Patch("/v1/users/me", a.signedIn(jsonBody(a.updateMe)))
	r.Delete("/v1/users/me", a.signedIn(a.recentSignIn(a.deleteMe)))
	r.Put("/v1/users/me/password", a.signedIn(a.recentSignIn(jsonBody(a.changePassword)), on(identity.ErrWrongPassword, 403)))
	r.Post("/v1/sessions", a.open(jsonBody(a.createSession)))
	r.Get("/v1/sessions", a.signedIn(paged(a.listSessions)))
	r.Delete("/v1/sessions", a.signedIn(a.deleteSessions))
	r.Get("/v1/sessions/current", a.signedIn(a.getCurrentSession))
	r.Delete("/v1/sessions/current", a.signedIn(a.deleteCurrentSession))
	r.Post("/v1/sessions/current/reauthenticate", a.signedIn(jsonBody(a.reauthenticate), on(identity.ErrWrongPassword, 403)))
	r.Delete("/v1/sessions/{id}", a.signedIn(a.deleteSession))
	r.Get("/v1/logins", a.signedIn(paged(a.listLogins)))
	r.Post("/v1/password-resets", a.open(jsonBody(a.requestPasswordReset)))
	r.Post("/v1/password-resets/check", a.open(a.limited(limit.ActionMailedToken, jsonBody(a.checkPasswordReset)), on(identity.ErrInvalidToken, 404)))
	r.Post("/v1/password-resets/complete", a.open(a.limited(limit.ActionMailedToken, jsonBody(a.completePasswordReset)), on(identity.ErrInvalidToken, 404)))

	r.Post("/oauth/token", a.oauth(a.limited(limit.ActionRefresh, oauthForm(a.refreshToken))))
	r.Post("/oauth/revoke", a.oauth(oauthForm(a.revokeToken)))
	r.Post("/oauth/introspect", a.oauth(a.asClient(oauthForm(a.introspectToken))))
	r.Get("/.well-known/jwks.json", a.open(a.getJWKS))
	r.Get("/.well-known/oauth-authorization-server", a.open(a.getServerMetadata))

	r.Get("/livez", a.open(a.getLiveness))
	r.Get("/readyz", a.open(a.getReadiness))
	r.Get("/openapi.json", a.plain(getOpenAPI))
	r.Get("/docs", a.plain(getDocs))
	r.Get("/verify", a.plain(getVerifyPage))
	if a.Mailbox != nil {
		r.Get("/dev/mail", a.open(a.getDevMail))
	}
}

// classicRoutes adds the routes for existing clients, under each prefix.
func (a *API) classicRoutes(r chi.Router, prefixes ...string) {
	wrongPassword := 403
	if a.HideAccounts {
		wrongPassword = 401
	}
	for _, p := range prefixes {
		r.Post(p+"/registerUser", a.openClassic(a.limited(limit.ActionRegister, jsonOrForm(a.registerUser)), on(identity.ErrUsernameTaken, 403), on(identity.ErrEmailTaken, 403)))
		r.Post(p+"/loginUser", a.openClassic(jsonOrForm(a.loginUser), on(identity.ErrNotFound, 401), on(issuer.ErrSubjectGone, 401),
			on(identity.ErrWrongPassword, wrongPassword), on(issuer.ErrCredentialChanged, wrongPassword), on(issuer.ErrTooManySessions, 403)))
		r.Delete(p+"/logout", a.signedInClassic(a.logout))
		r.Get(p+"/findUser", a.signedInClassic(queryParams(a.findUser), on(identity.ErrNotFound, 401)))
		r.Put(p+"/updateUser", a.signedInClassic(jsonOrForm(a.updateUser), on(identity.ErrNotFound, 401), on(identity.ErrEmailTaken, 403)))
		r.Delete(p+"/deleteUser", a.signedInClassic(queryParams(a.deleteUser)))
		r.Post(p+"/forgotPassword", a.openClassic(jsonOrForm(a.forgotPassword), on(identity.ErrNotFound, 403)))
		r.Get(p+"/reset", a.openClassic(a.limited(limit.ActionMailedToken, queryParams(a.checkReset)), on(identity.ErrInvalidToken, 403)))
		r.Put(p+"/updatePassword", a.signedInClassic(jsonOrForm(a.updatePassword), on(identity.ErrWrongPassword, 403), on(identity.ErrPasswordChanged, 403)))
		r.Put(p+"/updatePasswordViaEmail", a.openClassic(a.limited(limit.ActionMailedToken, jsonOrForm(a.updatePasswordViaEmail)),
			on(identity.ErrNotFound, 401), on(identity.ErrInvalidToken, 403)))
		r.Get(p+"/user/logins/show", a.signedInClassic(a.listUserLogins))
		r.Get(p+"/user/logins/delete/{login_id}", a.signedInClassic(a.deleteUserLogin, on(issuer.ErrNotFound, 400)))
		r.Get(p+"/user/logins/delete/all/not-current", a.signedInClassic(a.deleteOtherUserLogins))
		r.Get(p+"/user/logins/deletes/all", a.signedInClassic(a.deleteAllUserLogins))
	}
}
