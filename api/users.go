package api

import (
	"time"

	"github.com/sessiond/sessiond/identity"
)

func (a *API) registerByMail(q *request) (reply, error) {
	in, err := decodeJSON[newUserBody](q)
	if err != nil {
		return reply{}, err
	}
	if err := a.Users.RegisterByMail(q.Context(), in.user(q)); err != nil {
		return reply{}, err
	}
	return accepted("Check your mail to go on.")
}

type tokenBody struct {
	Token string `json:"token"`
}

func decodeToken(q *request) (string, error) {
	in, err := decodeJSON[tokenBody](q)
	if err != nil {
		return "", err
	}
	return in.Token, required("token", in.Token)
}

func (a *API) verifyEmail(q *request) (reply, error) {
	token, err := decodeToken(q)
	if err != nil {
		return reply{}, err
	}
	if err := a.Users.VerifyEmail(q.Context(), token); err != nil {
		return reply{}, err
	}
	return noContent()
}

type userBody struct {
	ID            string    `json:"id"`
	Username      string    `json:"username"`
	Email         string    `json:"email"`
	EmailVerified bool      `json:"email_verified"`
	FirstName     string    `json:"first_name"`
	LastName      string    `json:"last_name"`
	CreatedAt     time.Time `json:"created_at"`
}

func showUser(u identity.User) userBody {
	return userBody{
		ID: u.ID, Username: u.Username, Email: u.Email, EmailVerified: !u.EmailVerifiedAt.IsZero(),
		FirstName: u.FirstName, LastName: u.LastName, CreatedAt: u.CreatedAt,
	}
}

func (a *API) showMe(q *request) (reply, error) {
	user, err := a.Users.User(q.Context(), q.claims.Subject)
	if err != nil {
		return reply{}, err
	}
	return ok(showUser(user))
}

func (a *API) updateMe(q *request) (reply, error) {
	in, err := decodeJSON[struct {
		FirstName *string `json:"first_name"`
		LastName  *string `json:"last_name"`
		Email     *string `json:"email"`
	}](q)
	if err != nil {
		return reply{}, err
	}
	if in.Email != nil {
		if err := a.checkFresh(q); err != nil {
			return reply{}, err
		}
	}
	profile := identity.Profile{FirstName: in.FirstName, LastName: in.LastName, Email: in.Email}
	user, err := a.Users.UpdateProfile(q.Context(), q.claims.Subject, profile)
	if err != nil {
		return reply{}, err
	}
	return ok(showUser(user))
}

func (a *API) deleteMe(q *request) (reply, error) {
	if err := a.deleteAccount(q); err != nil {
		return reply{}, err
	}
	return noContent()
}

func (a *API) changeMyPassword(q *request) (reply, error) {
	in, err := decodeJSON[struct {
		CurrentPassword string `json:"current_password"`
		NewPassword     string `json:"new_password"`
	}](q)
	if err != nil {
		return reply{}, err
	}
	if err := required("current_password", in.CurrentPassword, "new_password", in.NewPassword); err != nil {
		return reply{}, err
	}
	if err := a.changePassword(q, &in.CurrentPassword, in.NewPassword); err != nil {
		return reply{}, renameField(err, "password", "new_password")
	}
	return noContent()
}
