package api

import (
	"net/http"
	"strings"
)

// revokeInput ignores its hint, because the two kinds of token look different.
type revokeInput struct {
	Token         string `json:"token" required:"true"`
	TokenTypeHint string `json:"token_type_hint"`
}

// revokeToken is the revocation endpoint (RFC 7009). A refresh token revokes its session. An access
// token is revoked alone. Access tokens of this service have dots, and refresh tokens have none.
func (a *API) revokeToken(q *request, in revokeInput) (reply, error) {
	var err error
	if strings.Contains(in.Token, ".") {
		err = a.Sessions.RevokeToken(q.Context(), in.Token)
	} else {
		_, err = a.Sessions.RevokeRefresh(q.Context(), in.Token)
	}
	return reply{status: http.StatusOK}, err
}
