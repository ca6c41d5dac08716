package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"

	"github.com/sessiond/sessiond/session"
)

// Clients are those who may introspect: the SHA-256 of each one's secret, by
// its id. The secrets are random, so that a fast hash keeps them safe.
type Clients map[string][sha256.Size]byte

// errClient: the caller of an endpoint for clients did not prove to be one.
var errClient = &errRequest{http.StatusUnauthorized, "invalid_client", "Authenticate by HTTP Basic as a client of CLIENTS_FILE."}

// authenticate checks a client's HTTP Basic credentials, which RFC 6749 section
// 2.3.1 wants form-encoded.
func (c Clients) authenticate(r *http.Request) error {
	user, password, ok := r.BasicAuth()
	id, errID := url.QueryUnescape(user)
	secret, errSecret := url.QueryUnescape(password)
	if !ok || errID != nil || errSecret != nil || len(r.Header.Values("Authorization")) != 1 {
		return errClient
	}
	want, known := c[id]
	got := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 || !known {
		return errClient
	}
	return nil
}

// introspection is RFC 7662 section 2.2. An inactive token says nothing more.
type introspection struct {
	Active    bool     `json:"active"`
	Issuer    string   `json:"iss,omitzero"`
	Audience  string   `json:"aud,omitzero"`
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
}

// introspect is the introspection endpoint, for access tokens.
func (a *API) introspect(q *request) (reply, error) {
	if err := a.Clients.authenticate(q.Request); err != nil {
		return reply{}, err
	}
	token, _, err := oauthForm(q, "token")
	if err != nil {
		return reply{}, err
	}
	c, err := a.Sessions.Verify(q.Context(), token)
	switch {
	case errors.Is(err, session.ErrInvalidToken), errors.Is(err, session.ErrRevoked):
		return ok(introspection{})
	case err != nil:
		return reply{}, err
	}
	return ok(introspection{
		Active: true, Issuer: c.Issuer, Audience: c.Audience, Subject: c.Subject, Username: c.Username,
		ClientID: c.ClientID, TokenType: "Bearer", TokenID: c.TokenID, SessionID: c.SessionID,
		IssuedAt: c.IssuedAt.Unix(), ExpiresAt: c.ExpiresAt.Unix(), AuthTime: c.AuthTime.Unix(), AMR: c.AMR,
	})
}
