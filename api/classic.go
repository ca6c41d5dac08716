package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/session/issuer"
)

type newUserBody struct {
	Username  string `json:"username"`
	Email     string `json:"email"`
	Password  string `json:"password"`
	FirstName string `json:"first_name"`
	LastName  string `json:"last_name"`
}

func (b *newUserBody) user(q *request) identity.NewUser {
	return identity.NewUser{
		Username: b.Username, Email: b.Email, Password: b.Password, FirstName: b.FirstName, LastName: b.LastName,
		IP: clientIP(q),
	}
}

// signedInBody answers a login on the classic routes.
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

func (a *API) registerUser(q *request) (reply, error) {
	in, err := decode[newUserBody](q)
	if err != nil {
		return reply{}, err
	}
	if a.HideAccounts {
		// Signing in at once would tell a free address from a taken one.
		if err := a.Users.RegisterByMail(q.Context(), in.user(q)); err != nil {
			return reply{}, err
		}
		return ok(authMessageBody{Auth: false, Message: "Check your mail to go on."})
	}
	user, err := a.Users.Register(q.Context(), in.user(q))
	if err != nil {
		return reply{}, err
	}
	return a.signIn(q, user, "User registered and signed in.")
}

func (a *API) loginUser(q *request) (reply, error) {
	in, err := decode[struct {
		Username string `json:"username"`
		Password string `json:"password"`
	}](q)
	if err != nil {
		return reply{}, err
	}
	if err := required("username", in.Username, "password", in.Password); err != nil {
		return reply{}, err
	}
	user, err := a.Users.Authenticate(q.Context(), in.Username, in.Password, origin(q))
	if a.HideAccounts && errors.Is(err, identity.ErrNotFound) {
		err = identity.ErrWrongPassword
	}
	if err != nil {
		return reply{}, err
	}
	return a.signIn(q, user, "User signed in.")
}

func (a *API) signIn(q *request, user identity.User, message string) (reply, error) {
	set, _, err := a.Sessions.Start(q.Context(), subject(user), client(q))
	if err != nil {
		return reply{}, err
	}
	note(q.Context()).subject = user.ID
	header := a.known(q, user)
	header.Set("X-Auth-Token", set.AccessToken)
	return reply{
		status: http.StatusOK,
		header: header,
		body: signedInBody{
			Auth: true, Token: set.AccessToken, RefreshToken: set.RefreshToken,
			ExpiresIn: int64(set.ExpiresIn.Seconds()), Message: message,
		},
	}, nil
}

func subject(u identity.User) issuer.Subject {
	return issuer.Subject{ID: u.ID, CredentialVersion: u.PasswordVersion}
}

func (a *API) logout(q *request) (reply, error) {
	if _, err := a.Sessions.Revoke(q.Context(), q.claims.Subject, q.claims.SessionID, issuer.ReasonLogout); err != nil {
		return reply{}, err
	}
	return ok(messageBody{"Signed out."})
}

// self reads the signed-in user when username names them, and refuses to say
// anything of other accounts, even whether they exist.
func (a *API) self(q *request, username string) (identity.User, error) {
	user, err := a.Users.User(q.Context(), q.claims.Subject)
	if err != nil {
		return user, err
	}
	if identity.Fold(username) != identity.Fold(user.Username) {
		return identity.User{}, errOtherUser
	}
	return user, nil
}

func (a *API) findUser(q *request) (reply, error) {
	username, err := param(q, "username")
	if err != nil {
		return reply{}, err
	}
	user, err := a.self(q, username)
	if err != nil {
		return reply{}, err
	}
	return ok(struct {
		Auth      bool   `json:"auth"`
		FirstName string `json:"first_name"`
		LastName  string `json:"last_name"`
		Email     string `json:"email"`
		Username  string `json:"username"`
		Message   string `json:"message"`
	}{true, user.FirstName, user.LastName, user.Email, user.Username, "User found."})
}

func (a *API) updateUser(q *request) (reply, error) {
	in, err := decode[struct {
		Username  string  `json:"username"`
		FirstName *string `json:"first_name"`
		LastName  *string `json:"last_name"`
		Email     *string `json:"email"`
	}](q)
	if err != nil {
		return reply{}, err
	}
	if err := required("username", in.Username); err != nil {
		return reply{}, err
	}
	if _, err := a.self(q, in.Username); err != nil {
		return reply{}, err
	}
	profile := identity.Profile{FirstName: in.FirstName, LastName: in.LastName, Email: in.Email}
	if _, err := a.Users.UpdateProfile(q.Context(), q.claims.Subject, profile); err != nil {
		return reply{}, err
	}
	return ok(authMessageBody{true, "User updated."})
}

func (a *API) deleteUser(q *request) (reply, error) {
	username, err := param(q, "username")
	if err != nil {
		return reply{}, err
	}
	if _, err := a.self(q, username); err != nil {
		return reply{}, err
	}
	if err := a.deleteAccount(q); err != nil {
		return reply{}, err
	}
	return ok(authMessageBody{true, "User deleted."})
}

// deleteAccount deletes the signed-in user and ends every session of theirs.
func (a *API) deleteAccount(q *request) error {
	revocation, err := a.Users.Delete(q.Context(), q.claims.Subject)
	if err != nil {
		return err
	}
	return a.Sessions.Enforce(q.Context(), revocation)
}

func (a *API) forgotPassword(q *request) (reply, error) {
	in, err := decode[struct {
		Email string `json:"email"`
	}](q)
	if err != nil {
		return reply{}, err
	}
	if err := required("email", in.Email); err != nil {
		return reply{}, err
	}
	request := a.Users.RequestKnownReset
	if a.HideAccounts {
		request = a.Users.RequestReset
	}
	err = a.admit(q, limit.ActionReset, in.Email, func() error { return request(q.Context(), in.Email) })
	if err != nil {
		return reply{}, err
	}
	return ok(messageBody{"Mail sent."})
}

func (a *API) showReset(q *request) (reply, error) {
	token, err := param(q, "resetPasswordToken")
	if err != nil {
		return reply{}, err
	}
	user, err := a.Users.CheckReset(q.Context(), token)
	if err != nil {
		return reply{}, err
	}
	return ok(struct {
		Username string `json:"username"`
		Message  string `json:"message"`
	}{user.Username, "The link is good. Choose a new password."})
}

func (a *API) updatePassword(q *request) (reply, error) {
	in, err := decode[struct {
		Username        string  `json:"username"`
		Password        string  `json:"password"`
		CurrentPassword *string `json:"current_password"`
	}](q)
	if err != nil {
		return reply{}, err
	}
	if err := required("username", in.Username, "password", in.Password); err != nil {
		return reply{}, err
	}
	if _, err := a.self(q, in.Username); err != nil {
		return reply{}, err
	}
	if err := a.changePassword(q, in.CurrentPassword, in.Password); err != nil {
		return reply{}, err
	}
	return ok(authMessageBody{true, "Password changed; every other session was ended."})
}

// changePassword sets the signed-in user's password and ends every other session.
func (a *API) changePassword(q *request, current *string, password string) error {
	revocation, err := a.Users.ChangePassword(q.Context(), q.claims.Subject, current, password, q.claims.SessionID, origin(q))
	if err != nil {
		return err
	}
	return a.Sessions.Enforce(q.Context(), revocation)
}

func (a *API) updatePasswordViaEmail(q *request) (reply, error) {
	in, err := decode[struct {
		Username string `json:"username"`
		Password string `json:"password"`
		Token    string `json:"resetPasswordToken"`
	}](q)
	if err != nil {
		return reply{}, err
	}
	if err := required("username", in.Username, "password", in.Password, "resetPasswordToken", in.Token); err != nil {
		return reply{}, err
	}
	header, err := a.resetPassword(q, in.Username, in.Token, in.Password)
	if a.HideAccounts && errors.Is(err, identity.ErrNotFound) {
		err = identity.ErrInvalidToken
	}
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, header: header, body: authMessageBody{true, "Password reset; every session was ended."}}, nil
}

// resetPassword uses up a reset token and ends every session of its user, whose
// device it is that reads the mail.
func (a *API) resetPassword(q *request, username, token, password string) (http.Header, error) {
	done, err := a.Users.CompleteReset(q.Context(), username, token, password, origin(q))
	if err != nil {
		return nil, err
	}
	return a.known(q, done.User), a.Sessions.Enforce(q.Context(), done.Revocation)
}

// loginBody is a session on the classic routes.
type loginBody struct {
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

func (a *API) login(q *request) func(*issuer.Session) loginBody {
	now := a.Now()
	return func(s *issuer.Session) loginBody {
		b := loginBody{
			ID: s.ID, UserID: s.Subject, TokenID: s.TokenID, IPAddress: s.IP, Device: s.Device,
			LoggedInAt: s.CreatedAt, Current: s.ID == q.claims.SessionID,
			TokenDeleted: !s.EndedAt.IsZero(),
		}
		if end := s.Ending(now); !end.At.IsZero() {
			b.LoggedOut, b.LoggedOutAt = true, &end.At
		}
		return b
	}
}

func (a *API) logins(q *request, sessions []issuer.Session) []loginBody {
	view := a.login(q)
	out := make([]loginBody, len(sessions))
	for i := range sessions {
		out[i] = view(&sessions[i])
	}
	return out
}

func (a *API) showLogins(q *request) (reply, error) {
	sessions, err := a.Sessions.Active(q.Context(), q.claims.Subject, issuer.Page{})
	if err != nil {
		return reply{}, err
	}
	return ok(struct {
		UserLogins []loginBody `json:"user_logins"`
	}{a.logins(q, sessions)})
}

type deletedLoginsBody struct {
	Deleted   bool        `json:"deleted"`
	UserLogin []loginBody `json:"user_login"`
}

func (a *API) deleteLogin(q *request) (reply, error) {
	s, err := a.revokeByID(q, chi.URLParam(q.Request, "login_id"))
	if err != nil {
		return reply{}, err
	}
	return ok(struct {
		Deleted   bool      `json:"deleted"`
		UserLogin loginBody `json:"user_login"`
	}{true, a.login(q)(&s)})
}

// revokeByID ends one session of the signed-in user, which for the current one
// is signing out.
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

func (a *API) deleteOtherLogins(q *request) (reply, error) {
	return a.deleteLogins(q, q.claims.SessionID, issuer.ReasonRevokedOthers)
}

func (a *API) deleteAllLogins(q *request) (reply, error) {
	return a.deleteLogins(q, "", issuer.ReasonRevokedAll)
}

func (a *API) deleteLogins(q *request, keep string, reason issuer.Reason) (reply, error) {
	ended, err := a.Sessions.RevokeAll(q.Context(), q.claims.Subject, keep, reason)
	if err != nil {
		return reply{}, err
	}
	return ok(deletedLoginsBody{Deleted: true, UserLogin: a.logins(q, ended)})
}
