package api

import (
	"net/http"

	"github.com/sessiond/sessiond/identity/limit"
)

// requestReset always answers the same, so that nobody learns which addresses
// have an account.
func (a *API) requestReset(q *request) (reply, error) {
	in, err := decodeJSON[struct {
		Email string `json:"email"`
	}](q)
	if err != nil {
		return reply{}, err
	}
	if err := required("email", in.Email); err != nil {
		return reply{}, err
	}
	err = a.admit(q, limit.ActionReset, in.Email, func() error { return a.Users.RequestReset(q.Context(), in.Email) })
	if err != nil {
		return reply{}, err
	}
	return accepted("If the address has an account, a mail is on its way.")
}

func (a *API) checkReset(q *request) (reply, error) {
	token, err := decodeToken(q)
	if err != nil {
		return reply{}, err
	}
	if _, err := a.Users.CheckReset(q.Context(), token); err != nil {
		return reply{}, err
	}
	return noContent()
}

func (a *API) completeReset(q *request) (reply, error) {
	in, err := decodeJSON[struct {
		Token    string `json:"token"`
		Password string `json:"password"`
	}](q)
	if err != nil {
		return reply{}, err
	}
	if err := required("token", in.Token, "password", in.Password); err != nil {
		return reply{}, err
	}
	header, err := a.resetPassword(q, "", in.Token, in.Password)
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusNoContent, header: header}, nil
}
