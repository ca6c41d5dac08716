package api

import (
	"context"
	"errors"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/session/issuer"
)

// The handlers of the classic (pre-/v1) routes and of the /v1 routes both call the functions in
// this file. Each handler then writes the result in its own JSON format.

// checkPassword finds a user by username or email address and checks the password. If hideAccount
// is true, an unknown user gives the same error as a wrong password.
func (a *API) checkPassword(q *request, login, password string, hideAccount bool) (identity.User, error) {
	user, err := a.Users.Authenticate(q.Context(), login, password, origin(q))
	if hideAccount && errors.Is(err, identity.ErrNotFound) {
		err = identity.ErrWrongPassword
	}
	return user, err
}

// startSession opens a session and adds a device token, by which rate limits recognise the device.
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

func (a *API) revokeCurrent(q *request) error {
	_, err := a.Sessions.Revoke(q.Context(), q.claims.Subject, q.claims.SessionID, issuer.ReasonLogout)
	return err
}

// revokeByID revokes one session of the signed-in user. If id names the current session, the login
// history shows a logout.
func (a *API) revokeByID(q *request, id string) (issuer.Session, error) {
	if !issuer.ValidID(id) {
		return issuer.Session{}, issuer.ErrNotFound
	}
	reason := issuer.ReasonRevoked
	if id == q.claims.SessionID {
		reason = issuer.ReasonLogout
	}
	s, err := a.Sessions.Revoke(q.Context(), q.claims.Subject, id, reason)
	if errors.Is(err, issuer.ErrNotFound) && len(id) == len(q.claims.SessionID) { // any other text may be a secret in the wrong place
		logEntryOf(q.Request).target = id
	}
	return s, err
}

func (a *API) revokeOthers(q *request) (issuer.Ended, error) {
	return a.Sessions.RevokeAll(q.Context(), q.claims.Subject, q.claims.SessionID, issuer.ReasonRevokedOthers)
}

func (a *API) revokeAll(q *request) (issuer.Ended, error) {
	return a.Sessions.RevokeAll(q.Context(), q.claims.Subject, "", issuer.ReasonRevokedAll)
}

func (a *API) currentUser(q *request) (identity.User, error) {
	return a.Users.User(q.Context(), q.claims.Subject)
}

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

// requestReset charges the rate limits of a password reset and then calls mailLink to mail a link.
func (a *API) requestReset(q *request, email string, mailLink func(context.Context, string) error) error {
	return a.charged(q, limit.ActionReset, email, func() error { return mailLink(q.Context(), email) })
}

// resetPassword consumes a reset token, sets the password of the token's user and revokes all the
// user's sessions. It adds a device token to the reply, because only somebody who can read the
// user's mail knows the reset token.
func (a *API) resetPassword(q *request, username, token, password string) error {
	done, err := a.Users.CompleteReset(q.Context(), username, token, password, origin(q))
	if err != nil {
		return err
	}
	a.setDeviceToken(q, done.User)
	return a.Sessions.Enforce(q.Context(), done.Revocation)
}
