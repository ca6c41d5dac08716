package api

import (
	"errors"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/session/issuer"
)

// This file has the handlers of the classic routes, which serve clients older than /v1. Only
// routes.go may use them. To remove the classic routes, remove the call of classicRoutes there.

// currentPasswordInput is the part of a request with which a client proves that it acts for the user.
type currentPasswordInput struct {
	CurrentPassword *string `json:"current_password"`
}

// stepUp checks the current password, if the client sent it. Otherwise it returns errReauthenticate
// if the last password check of the session is too old, unless ClassicRoutes is ClassicOn.
func (a *API) stepUp(q *request, in currentPasswordInput) error {
	switch {
	case in.CurrentPassword != nil:
		_, err := a.Users.Reauthenticate(q.Context(), q.claims.Subject, *in.CurrentPassword, origin(q))
		return err
	case a.ClassicRoutes == ClassicOn:
		return nil
	default:
		return a.checkRecentSignIn(q)
	}
}

// signedInBody is the reply to a login and to a registration.
type signedInBody struct {
	Auth         bool   `json:"auth"`
	Token        string `json:"token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    int64  `json:"expires_in"`
	Message      string `json:"message"`
}

type authMessageBody struct {
	Auth    bool   `json:"auth"`
	Message string `json:"message"`
}

func (a *API) registerUser(q *request, in newUserInput) (reply, error) {
	if a.HideAccounts {
		// Do not sign the client in. Otherwise the reply would show that the email address is new.
		err := a.Users.RegisterByMail(q.Context(), in.user(q))
		return ok(authMessageBody{false, "Check your mail to go on."}), err
	}
	user, err := a.Users.Register(q.Context(), in.user(q))
	if err != nil {
		return reply{}, err
	}
	return a.signIn(q, user, "User registered and signed in.")
}

type loginInput struct {
	Username string `json:"username" required:"true"`
	Password string `json:"password" required:"true"`
}

func (a *API) loginUser(q *request, in loginInput) (reply, error) {
	user, err := a.checkPassword(q, in.Username, in.Password, a.HideAccounts)
	if err != nil {
		return reply{}, err
	}
	return a.signIn(q, user, "User signed in.")
}

func (a *API) signIn(q *request, user identity.User, message string) (reply, error) {
	set, _, err := a.startSession(q, user)
	q.replyHeader.Set("X-Auth-Token", set.AccessToken)
	return ok(signedInBody{
		Auth: true, Token: set.AccessToken, RefreshToken: set.RefreshToken,
		ExpiresIn: int64(set.ExpiresIn.Seconds()), Message: message,
	}), err
}

func (a *API) logout(q *request) (reply, error) {
	return okMessage("Signed out."), a.revokeCurrent(q)
}

// namedUser returns the signed-in user if username is that user's username or email address. Otherwise it
// returns errOtherUser, whether or not an account of that name exists.
func (a *API) namedUser(q *request, username string) (identity.User, error) {
	user, err := a.currentUser(q)
	if err == nil && identity.Fold(username) != identity.Fold(user.Username) && identity.FoldEmail(username) != identity.FoldEmail(user.Email) {
		logEntryOf(q.Request).target = limit.Hash(identity.Fold(username))
		err = errOtherUser
	}
	return user, err
}

type usernameInput struct {
	Username string `json:"username" required:"true"`
}

func (a *API) findUser(q *request, in usernameInput) (reply, error) {
	user, err := a.namedUser(q, in.Username)
	return ok(struct {
		Auth bool `json:"auth"`
		profileBody
		Message string `json:"message"`
	}{true, showProfile(user), "User found."}), err
}

type updateUserInput struct {
	Username string `json:"username" required:"true"`
	profileInput
	currentPasswordInput
}

func (a *API) updateUser(q *request, in updateUserInput) (reply, error) {
	user, err := a.namedUser(q, in.Username)
	if err != nil {
		return reply{}, err
	}
	if in.Email != nil || in.CurrentPassword != nil {
		if err := a.stepUp(q, in.currentPasswordInput); err != nil {
			return reply{}, err
		}
	}
	if in.Email != nil && *in.Email == user.Email {
		in.Email = nil // clients send all fields back, and must not cancel a change that waits for its confirmation
	}
	_, err = a.updateProfile(q, in.profileInput)
	return ok(authMessageBody{true, "User updated."}), err
}

func (a *API) deleteUser(q *request, in usernameInput) (reply, error) {
	if _, err := a.namedUser(q, in.Username); err != nil {
		return reply{}, err
	}
	// The password is in the body, because a URL would show up in logs.
	var proof currentPasswordInput
	if err := decodeOptional(q, &proof); err != nil {
		return reply{}, err
	}
	if err := a.stepUp(q, proof); err != nil {
		return reply{}, err
	}
	return ok(authMessageBody{true, "User deleted."}), a.deleteAccount(q)
}

func (a *API) forgotPassword(q *request, in emailInput) (reply, error) {
	request := a.Users.RequestKnownReset
	if a.HideAccounts {
		request = a.Users.RequestReset
	}
	return okMessage("Mail sent."), a.requestReset(q, in.Email, request)
}

type resetTokenInput struct {
	Token string `json:"resetPasswordToken" required:"true"`
}

func (a *API) checkReset(q *request, in resetTokenInput) (reply, error) {
	user, err := a.Users.CheckReset(q.Context(), in.Token)
	return ok(struct {
		Username string `json:"username"`
		Message  string `json:"message"`
	}{user.Username, "The link is good. Choose a new password."}), err
}

type updatePasswordInput struct {
	Username string `json:"username" required:"true"`
	Password string `json:"password" required:"true"`
	currentPasswordInput
}

func (a *API) updatePassword(q *request, in updatePasswordInput) (reply, error) {
	if _, err := a.namedUser(q, in.Username); err != nil {
		return reply{}, err
	}
	if in.CurrentPassword == nil { // otherwise replacePassword checks it
		if err := a.stepUp(q, in.currentPasswordInput); err != nil {
			return reply{}, err
		}
	}
	err := a.replacePassword(q, in.CurrentPassword, in.Password)
	return ok(authMessageBody{true, "Password changed; every other session was ended."}), err
}

type updatePasswordViaEmailInput struct {
	Username string `json:"username" required:"true"`
	Password string `json:"password" required:"true"`
	Token    string `json:"resetPasswordToken" required:"true"`
}

func (a *API) updatePasswordViaEmail(q *request, in updatePasswordViaEmailInput) (reply, error) {
	err := a.resetPassword(q, in.Username, in.Token, in.Password)
	if a.HideAccounts && errors.Is(err, identity.ErrNotFound) {
		err = identity.ErrInvalidToken
	}
	return ok(authMessageBody{true, "Password reset; every session was ended."}), err
}

// userLoginBody is a session as the classic (pre-/v1) routes show it.
type userLoginBody struct {
	ID           string     `json:"id"`
	UserID       string     `json:"user_id"`
	TokenID      string     `json:"token_id"`
	IPAddress    string     `json:"ip_address"`
	Device       string     `json:"device"`
	LoggedInAt   time.Time  `json:"logged_in_at"`
	LoggedOutAt  *time.Time `json:"logged_out_at"`
	LoggedOut    bool       `json:"logged_out"`
	TokenDeleted bool       `json:"token_deleted"`
	Current      bool       `json:"current"`
}

func showUserLogin(s *issuer.Session, current string, now time.Time) userLoginBody {
	b := userLoginBody{
		ID: s.ID, UserID: s.Subject, TokenID: s.TokenID, IPAddress: s.IP, Device: s.Device,
		LoggedInAt: s.CreatedAt, Current: s.ID == current, TokenDeleted: !s.EndedAt.IsZero(),
	}
	if end := s.Ending(now); !end.At.IsZero() {
		b.LoggedOut, b.LoggedOutAt = true, &end.At
	}
	return b
}

// maxUserLogins bounds the list of a user's logins, because the classic routes have no pages. The lists of
// revoked logins have the same bound.
const maxUserLogins = issuer.MaxEndedNewest

func (a *API) showUserLogins(q *request, sessions []issuer.Session) []userLoginBody {
	now := a.Now()
	out := make([]userLoginBody, len(sessions))
	for i := range sessions {
		out[i] = showUserLogin(&sessions[i], q.claims.SessionID, now)
	}
	return out
}

func (a *API) listUserLogins(q *request) (reply, error) {
	sessions, err := a.Sessions.Active(q.Context(), q.claims.Subject, issuer.Page{Limit: maxUserLogins})
	return ok(struct {
		UserLogins []userLoginBody `json:"user_logins"`
	}{a.showUserLogins(q, sessions)}), err
}

func (a *API) deleteUserLogin(q *request) (reply, error) {
	s, err := a.revokeByID(q, chi.URLParam(q.Request, "login_id"))
	return ok(struct {
		Deleted   bool          `json:"deleted"`
		UserLogin userLoginBody `json:"user_login"`
	}{true, showUserLogin(&s, q.claims.SessionID, a.Now())}), err
}

type deletedUserLoginsBody struct {
	Deleted   bool            `json:"deleted"`
	UserLogin []userLoginBody `json:"user_login"`
}

func (a *API) deleteOtherUserLogins(q *request) (reply, error) {
	revoked, err := a.revokeOthers(q)
	return ok(deletedUserLoginsBody{true, a.showUserLogins(q, revoked.Newest)}), err
}

func (a *API) deleteAllUserLogins(q *request) (reply, error) {
	var proof currentPasswordInput
	if err := decodeOptional(q, &proof); err != nil {
		return reply{}, err
	}
	if err := a.stepUp(q, proof); err != nil {
		return reply{}, err
	}
	revoked, err := a.revokeAll(q)
	return ok(deletedUserLoginsBody{true, a.showUserLogins(q, revoked.Newest)}), err
}
