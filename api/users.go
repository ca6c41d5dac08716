package api

import (
	"time"

	"github.com/sessiond/sessiond/identity"
)

// createUser registers a user by mail, so the reply does not show whether the address is free.
func (a *API) createUser(q *request, in newUserInput) (reply, error) {
	return accepted("Check your mail to go on."), a.Users.RegisterByMail(q.Context(), in.user(q))
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

func (a *API) getMe(q *request) (reply, error) {
	user, err := a.currentUser(q)
	return ok(showUser(user)), err
}

type updateMeInput struct {
	FirstName *string `json:"first_name"`
	LastName  *string `json:"last_name"`
	Email     *string `json:"email"`
}

func (a *API) updateMe(q *request, in updateMeInput) (reply, error) {
	if in.Email != nil {
		if err := a.checkRecentSignIn(q); err != nil {
			return reply{}, err
		}
	}
	profile := identity.Profile{FirstName: in.FirstName, LastName: in.LastName, Email: in.Email}
	user, err := a.Users.UpdateProfile(q.Context(), q.claims.Subject, profile)
	return ok(showUser(user)), err
}

func (a *API) deleteMe(q *request) (reply, error) { return noContent, a.deleteAccount(q) }

type changePasswordInput struct {
	CurrentPassword string `json:"current_password" required:"true"`
	NewPassword     string `json:"new_password" required:"true"`
}

func (a *API) changePassword(q *request, in changePasswordInput) (reply, error) {
	err := a.replacePassword(q, &in.CurrentPassword, in.NewPassword)
	return noContent, renameField(err, "password", "new_password")
}
