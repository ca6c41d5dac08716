package api

import (
	"net/http"
	"strings"
)

// revokeInput is the body of RFC 7009 section 2.1. The handler ignores TokenTypeHint, because it
// can tell an access token from a refresh token.
type revokeInput struct {
	Token         string `json:"token" required:"true"`
	TokenTypeHint string `json:"token_type_hint"`
}

// revokeToken serves the revocation endpoint (RFC 7009). If the client sends a refresh token, the
// whole session is revoked. If it sends an access token, only that token is revoked. Access tokens
// are JWTs and contain dots. Refresh tokens contain no dot.
func (a *API) revokeToken(q *request, in revokeInput) (reply, error) {
	var err error
	if strings.Contains(in.Token, ".") {
		err = a.Sessions.RevokeToken(q.Context(), in.Token)
	} else {
		_, err = a.Sessions.RevokeRefresh(q.Context(), in.Token)
	}
	return reply{status: http.StatusOK}, err
}
