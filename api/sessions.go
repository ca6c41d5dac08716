package api

import (
	"errors"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// sessionBody is a session as the /v1 routes show it.
type sessionBody struct {
	ID         string    `json:"id"`
	IPAddress  string    `json:"ip_address"`
	Device     string    `json:"device"`
	UserAgent  string    `json:"user_agent"`
	CreatedAt  time.Time `json:"created_at"`
	LastSeenAt time.Time `json:"last_seen_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	Current    bool      `json:"current"`
}

func showSession(s *issuer.Session, current string) sessionBody {
	return sessionBody{
		ID: s.ID, IPAddress: s.IP, Device: s.Device, UserAgent: s.UserAgent,
		CreatedAt: s.CreatedAt, LastSeenAt: s.LastSeenAt, ExpiresAt: s.ExpiresAt, Current: s.ID == current,
	}
}

// tokenSetBody is a token response (RFC 6749 section 5.1) with the session of the tokens.
type tokenSetBody struct {
	AccessToken  string       `json:"access_token"`
	TokenType    string       `json:"token_type"`
	ExpiresIn    int64        `json:"expires_in"`
	RefreshToken string       `json:"refresh_token,omitzero"`
	Session      *sessionBody `json:"session,omitzero"`
}

// showTokenSet returns the reply with a token set and, if s is not nil, the session s.
func showTokenSet(set issuer.TokenSet, s *issuer.Session) tokenSetBody {
	body := tokenSetBody{
		AccessToken: set.AccessToken, TokenType: "Bearer", ExpiresIn: int64(set.ExpiresIn.Seconds()), RefreshToken: set.RefreshToken,
	}
	if s != nil {
		current := showSession(s, s.ID)
		body.Session = &current
	}
	return body
}

type createSessionInput struct {
	Login    string `json:"login" required:"true"`
	Password string `json:"password" required:"true"`
}

func (a *API) createSession(q *request, in createSessionInput) (reply, error) {
	user, err := a.checkPassword(q, in.Login, in.Password, true)
	if err != nil {
		return reply{}, err
	}
	set, s, err := a.startSession(q, user)
	return created(showTokenSet(set, &s)), err
}

func (a *API) listSessions(q *request, p issuer.Page) (reply, error) {
	found, err := a.Sessions.Active(q.Context(), q.claims.Subject, p)
	return ok(listOf(found, p,
		func(s *issuer.Session) string { return s.ID },
		func(s *issuer.Session) sessionBody { return showSession(s, q.claims.SessionID) })), err
}

func (a *API) getCurrentSession(q *request) (reply, error) {
	s, err := a.Sessions.Find(q.Context(), q.claims.Subject, q.claims.SessionID)
	if errors.Is(err, issuer.ErrNotFound) {
		err = session.ErrRevoked // the session ended after the access token was checked
	}
	return ok(showSession(&s, s.ID)), err
}

func (a *API) deleteCurrentSession(q *request) (reply, error) { return noContent, a.revokeCurrent(q) }

// deleteSession revokes one session. A client may end its own session at any time.
func (a *API) deleteSession(q *request) (reply, error) {
	id := chi.URLParam(q.Request, "id")
	if id != q.claims.SessionID {
		if err := a.checkRecentSignIn(q); err != nil {
			return reply{}, err
		}
	}
	_, err := a.revokeByID(q, id)
	return noContent, err
}

// deleteSessions revokes all sessions of the user, or with ?except=current all except the current
// session. It refuses any other query, because a misspelt "except" must not sign the client out.
func (a *API) deleteSessions(q *request) (reply, error) {
	values, err := parseQuery(q)
	if err != nil {
		return reply{}, err
	}
	revoke := a.revokeAll
	switch {
	case len(values) == 0:
	case len(values) == 1 && values.Get("except") == "current":
		revoke = a.revokeOthers
	default:
		return reply{}, fieldError("except", "invalid", `must be "current" or absent, and no other parameter is allowed`)
	}
	if err := a.checkRecentSignIn(q); err != nil {
		return reply{}, err
	}
	revoked, err := revoke(q)
	return ok(revokedBody{revoked.Count}), err
}

type revokedBody struct {
	Revoked int `json:"revoked"`
}
