package api

import (
	"errors"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sessiond/sessiond/session"
)

// introspectInput is the body of RFC 7662 section 2.1. The handler ignores TokenTypeHint, because
// only access tokens can be introspected.
type introspectInput struct {
	Token         string `json:"token" required:"true"`
	TokenTypeHint string `json:"token_type_hint"`
}

// introspection is the reply of RFC 7662 section 2.2. For a token that is not active, all fields
// except "active" are absent.
type introspection struct {
	Active    bool     `json:"active"`
	Issuer    string   `json:"iss,omitzero"`
	Audience  any      `json:"aud,omitzero"` // a text, or an array of several
	Subject   string   `json:"sub,omitzero"`
	Username  string   `json:"username,omitzero"`
	ClientID  string   `json:"client_id,omitzero"`
	TokenType string   `json:"token_type,omitzero"`
	TokenID   string   `json:"jti,omitzero"`
	SessionID string   `json:"sid,omitzero"`
	IssuedAt  int64    `json:"iat,omitzero"`
	ExpiresAt int64    `json:"exp,omitzero"`
	AuthTime  int64    `json:"auth_time,omitzero"`
	AMR       []string `json:"amr,omitzero"`
	Roles     []string `json:"roles,omitzero"`

	Claims jsontext.Value `json:"claims,omitzero"`
}

// introspectToken serves the introspection endpoint (RFC 7662) for access tokens.
func (a *API) introspectToken(q *request, in introspectInput) (reply, error) {
	c, err := a.Sessions.Verify(q.Context(), in.Token)
	switch {
	case errors.Is(err, session.ErrInvalidToken), errors.Is(err, session.ErrRevoked):
		return ok(introspection{}), nil
	case err != nil:
		return reply{}, err
	}
	var audience any = c.Audience
	if len(c.Audience) == 1 {
		audience = c.Audience[0]
	}
	shown := introspection{
		Active: true, Issuer: c.Issuer, Audience: audience, Subject: c.Subject, Username: c.Username,
		ClientID: c.ClientID, TokenType: "Bearer", TokenID: c.TokenID, SessionID: c.SessionID,
		IssuedAt: c.IssuedAt.Unix(), ExpiresAt: c.ExpiresAt.Unix(), AuthTime: c.AuthTime.Unix(), AMR: c.AMR,
		Roles: c.Roles.List(),
	}
	if c.Custom != "" {
		shown.Claims = jsontext.Value(c.Custom)
	}
	return ok(shown), nil
}
