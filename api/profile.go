package api

import "github.com/sessiond/sessiond/identity"

// This file lists the fields of a user that clients may read and write. A new field must be added
// here, in package identity and in openapi.json.

// newUserInput is the body of a registration.
type newUserInput struct {
	Username  string `json:"username" required:"true"`
	Email     string `json:"email" required:"true"`
	Password  string `json:"password" required:"true"`
	FirstName string `json:"first_name"`
	LastName  string `json:"last_name"`
}

func (in *newUserInput) user(q *request) identity.NewUser {
	return identity.NewUser{
		Username: in.Username, Email: in.Email, Password: in.Password, FirstName: in.FirstName, LastName: in.LastName,
		IP: clientIP(q.Request),
	}
}

// profileInput is the body of an update. An absent field keeps its value.
type profileInput struct {
	FirstName *string `json:"first_name"`
	LastName  *string `json:"last_name"`
	Email     *string `json:"email"`
}

func (in *profileInput) profile() identity.Profile {
	return identity.Profile{FirstName: in.FirstName, LastName: in.LastName, Email: in.Email}
}

func (a *API) updateProfile(q *request, in profileInput) (identity.User, error) {
	return a.Users.UpdateProfile(q.Context(), q.claims.Subject, in.profile(), origin(q))
}

type profileBody struct {
	Username  string `json:"username"`
	Email     string `json:"email"`
	FirstName string `json:"first_name"`
	LastName  string `json:"last_name"`
}

func showProfile(u identity.User) profileBody {
	return profileBody{Username: u.Username, Email: u.Email, FirstName: u.FirstName, LastName: u.LastName}
}
