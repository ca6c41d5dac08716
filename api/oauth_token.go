package api

import "net/http"

var errGrantType = &errRequest{http.StatusBadRequest, "unsupported_grant_type", "grant_type must be refresh_token."}

// tokenInput is the body of a refresh. RefreshToken has no tag "required", because a request with
// another grant type must get the error unsupported_grant_type even without a refresh token.
type tokenInput struct {
	GrantType    string `json:"grant_type" required:"true"`
	RefreshToken string `json:"refresh_token"`
}

// refreshToken serves the token endpoint (RFC 6749 section 6).
func (a *API) refreshToken(q *request, in tokenInput) (reply, error) {
	if in.GrantType != "refresh_token" {
		return reply{}, errGrantType
	}
	if in.RefreshToken == "" {
		return reply{}, requiredField("refresh_token")
	}
	set, _, err := a.Sessions.Refresh(q.Context(), in.RefreshToken)
	return ok(showTokenSet(set, nil)), err
}
