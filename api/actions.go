package api

import (
	"context"
	"errors"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/session/issuer"
)

// The actions that classic routes and /v1 routes share. A handler calls an action and shows its
// result in the format of its own routes.

// checkPassword finds the user of a login and checks the password. If hideAccount is true, an
// unknown login gives the same error as a wrong password.
func (a *API) checkPassword(q *request, login, password string, hideAccount bool) (identity.User, error) {
	user, err := a.Users.Authenticate(q.Context(), login, password, origin(q))
	if hideAccount && errors.Is(err, identity.ErrNotFound) {
		err = identity.ErrWrongPassword
	}
	return user, err
}

// startSession signs a user in. The reply carries a device token.
func (a *API) startSession(q *request, user identity.User) (issuer.TokenSet, issuer.Session, error) {
	set, s, err := a.Sessions.Start(q.Context(), subject(user), client(q.Request))
	if err == nil {
		logEntryOf(q.Request).subject = user.ID
		a.setDeviceToken(q, user)
	}
	return set, s, err
}

func subject(u identity.User) issuer.Subject {
	return issuer.Subject{ID: u.ID, CredentialVersion: u.PasswordVersion}
}

// revokeCurrent signs the client out.
func (a *API) revokeCurrent(q *request) error {
	_, err := a.Sessions.Revoke(q.Context(), q.claims.Subject, q.claims.SessionID, issuer.ReasonLogout)
	return err
}

// revokeByID revokes one session of the signed-in user. For the current session that is a logout.
func (a *API) revokeByID(q *request, id string) (issuer.Session, error) {
	if !issuer.ValidID(id) {
		return issuer.Session{}, issuer.ErrNotFound
	}
	reason := issuer.ReasonRevoked
	if id == q.claims.SessionID {
		reason = issuer.ReasonLogout
	}
	return a.Sessions.Revoke(q.Context(), q.claims.Subject, id, reason)
}

// revokeOthers revokes every session of the signed-in user except the current one.
func (a *API) revokeOthers(q *request) ([]issuer.Session, error) {
	return a.Sessions.RevokeAll(q.Context(), q.claims.Subject, q.claims.SessionID, issuer.ReasonRevokedOthers)
}

// revokeAll revokes every session of the signed-in user.
func (a *API) revokeAll(q *request) ([]issuer.Session, error) {
	return a.Sessions.RevokeAll(q.Context(), q.claims.Subject, "", issuer.ReasonRevokedAll)
}

// currentUser returns the signed-in user.
func (a *API) currentUser(q *request) (identity.User, error) {
	return a.Users.User(q.Context(), q.claims.Subject)
}

// deleteAccount deletes the signed-in user and revokes all sessions of the user.
func (a *API) deleteAccount(q *request) error {
	revocation, err := a.Users.Delete(q.Context(), q.claims.Subject)
	if err != nil {
		return err
	}
	return a.Sessions.Enforce(q.Context(), revocation)
}

// replacePassword sets the password of the signed-in user and revokes the user's other sessions.
func (a *API) replacePassword(q *request, current *string, password string) error {
	revocation, err := a.Users.ChangePassword(q.Context(), q.claims.Subject, current, password, q.claims.SessionID, origin(q))
	if err != nil {
		return err
	}
	return a.Sessions.Enforce(q.Context(), revocation)
}

// requestReset charges the limits of an email address and calls request, which mails a reset link.
func (a *API) requestReset(q *request, email string, request func(context.Context, string) error) error {
	return a.charged(q, limit.ActionReset, email, func() error { return request(q.Context(), email) })
}

// resetPassword sets the password of a reset token's user, uses the token up and revokes all
// sessions of the user. The reply carries a device token, because the client reads the user's mail.
func (a *API) resetPassword(q *request, username, token, password string) error {
	done, err := a.Users.CompleteReset(q.Context(), username, token, password, origin(q))
	if err != nil {
		return err
	}
	a.setDeviceToken(q, done.User)
	return a.Sessions.Enforce(q.Context(), done.Revocation)
}
