package api

import (
	"strings"
	"time"

	"github.com/sessiond/sessiond/identity"
)

// createUser registers a user by mail. Its reply does not show whether the email address is taken.
func (a *API) createUser(q *request, in newUserInput) (reply, error) {
	return accepted("Check your mail to go on."), a.Users.RegisterByMail(q.Context(), in.user(q))
}

type userBody struct {
	ID string `json:"id"`
	profileBody
	PendingEmail  *string   `json:"pending_email"`
	EmailVerified bool      `json:"email_verified"`
	Roles         []string  `json:"roles"`
	CreatedAt     time.Time `json:"created_at"`
}

func (a *API) showUser(u identity.User) userBody {
	body := userBody{ID: u.ID, profileBody: showProfile(u), EmailVerified: !u.EmailVerifiedAt.IsZero(), Roles: []string{}, CreatedAt: u.CreatedAt}
	if u.Roles != "" {
		body.Roles = strings.Split(u.Roles, ",")
	}
	if pending := u.Pending(a.Now()); pending != "" {
		body.PendingEmail = &pending
	}
	return body
}

func (a *API) getMe(q *request) (reply, error) {
	user, err := a.currentUser(q)
	return ok(a.showUser(user)), err
}

func (a *API) updateMe(q *request, in profileInput) (reply, error) {
	if in.Email != nil {
		if err := a.checkRecentSignIn(q); err != nil {
			return reply{}, err
		}
	}
	user, err := a.updateProfile(q, in)
	return ok(a.showUser(user)), err
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
