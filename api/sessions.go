package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// sessionBody is a session on the /v1 routes.
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

func sessionView(s *issuer.Session, current string) sessionBody {
	return sessionBody{
		ID: s.ID, IPAddress: s.IP, Device: s.Device, UserAgent: s.UserAgent,
		CreatedAt: s.CreatedAt, LastSeenAt: s.LastSeenAt, ExpiresAt: s.ExpiresAt, Current: s.ID == current,
	}
}

// tokenSetBody is RFC 6749 section 5.1 with the session that it belongs to.
type tokenSetBody struct {
	AccessToken  string       `json:"access_token"`
	TokenType    string       `json:"token_type"`
	ExpiresIn    int64        `json:"expires_in"`
	RefreshToken string       `json:"refresh_token,omitzero"`
	Session      *sessionBody `json:"session,omitzero"`
}

func tokenSet(set issuer.TokenSet, s *sessionBody) tokenSetBody {
	return tokenSetBody{
		AccessToken: set.AccessToken, TokenType: "Bearer", ExpiresIn: int64(set.ExpiresIn.Seconds()),
		RefreshToken: set.RefreshToken, Session: s,
	}
}

func (a *API) startSession(q *request) (reply, error) {
	in, err := decodeJSON[struct {
		Login    string `json:"login"`
		Password string `json:"password"`
	}](q)
	if err != nil {
		return reply{}, err
	}
	if err := required("login", in.Login, "password", in.Password); err != nil {
		return reply{}, err
	}
	user, err := a.Users.Authenticate(q.Context(), in.Login, in.Password, origin(q))
	if errors.Is(err, identity.ErrNotFound) {
		err = identity.ErrWrongPassword
	}
	if err != nil {
		return reply{}, err
	}
	set, s, err := a.Sessions.Start(q.Context(), subject(user), client(q))
	if err != nil {
		return reply{}, err
	}
	note(q.Context()).subject = user.ID
	view := sessionView(&s, s.ID)
	return reply{status: http.StatusCreated, header: a.known(q, user), body: tokenSet(set, &view)}, nil
}

func (a *API) listSessions(q *request) (reply, error) {
	p, err := page(q)
	if err != nil {
		return reply{}, err
	}
	found, err := a.Sessions.Active(q.Context(), q.claims.Subject, p)
	if err != nil {
		return reply{}, err
	}
	return ok(paged(found, p,
		func(s *issuer.Session) string { return s.ID },
		func(s *issuer.Session) sessionBody { return sessionView(s, q.claims.SessionID) }))
}

func (a *API) showCurrent(q *request) (reply, error) {
	s, err := a.Sessions.Find(q.Context(), q.claims.Subject, q.claims.SessionID)
	if errors.Is(err, issuer.ErrNotFound) {
		err = session.ErrRevoked // it ended since the check
	}
	if err != nil {
		return reply{}, err
	}
	return ok(sessionView(&s, s.ID))
}

func (a *API) endCurrent(q *request) (reply, error) {
	if _, err := a.Sessions.Revoke(q.Context(), q.claims.Subject, q.claims.SessionID, issuer.ReasonLogout); err != nil {
		return reply{}, err
	}
	return noContent()
}

func (a *API) endSession(q *request) (reply, error) {
	if _, err := a.revokeByID(q, chi.URLParam(q.Request, "id")); err != nil {
		return reply{}, err
	}
	return noContent()
}

// endSessions ends all sessions, or with ?except=current the others. Any other
// query is refused: a misspelt "except" must not sign the caller out.
func (a *API) endSessions(q *request) (reply, error) {
	values, err := query(q)
	if err != nil {
		return reply{}, err
	}
	keep, reason := "", issuer.ReasonRevokedAll
	switch {
	case len(values) == 0:
		if err := a.checkFresh(q); err != nil {
			return reply{}, err
		}
	case len(values) == 1 && values.Get("except") == "current":
		keep, reason = q.claims.SessionID, issuer.ReasonRevokedOthers
	default:
		return reply{}, fieldError("except", "invalid", `is "current" or not there, and nothing else is in the query`)
	}
	ended, err := a.Sessions.RevokeAll(q.Context(), q.claims.Subject, keep, reason)
	if err != nil {
		return reply{}, err
	}
	return ok(struct {
		Revoked int `json:"revoked"`
	}{len(ended)})
}

func (a *API) reauthenticate(q *request) (reply, error) {
	in, err := decodeJSON[struct {
		Password string `json:"password"`
	}](q)
	if err != nil {
		return reply{}, err
	}
	if err := required("password", in.Password); err != nil {
		return reply{}, err
	}
	user, err := a.Users.Reauthenticate(q.Context(), q.claims.Subject, in.Password, origin(q))
	if err != nil {
		return reply{}, err
	}
	set, s, err := a.Sessions.Reauthenticate(q.Context(), q.claims.SessionID, subject(user))
	if err != nil {
		return reply{}, err
	}
	view := sessionView(&s, s.ID)
	return ok(tokenSet(set, &view))
}

// historyBody is a login in the history.
type historyBody struct {
	sessionBody `json:",inline"`
	Status      issuer.Status  `json:"status"`
	EndedAt     *time.Time     `json:"ended_at"`
	EndReason   *issuer.Reason `json:"end_reason"`
	EndedBy     *issuer.Actor  `json:"ended_by"`
}

func (a *API) listLogins(q *request) (reply, error) {
	p, err := page(q)
	if err != nil {
		return reply{}, err
	}
	found, err := a.Sessions.History(q.Context(), q.claims.Subject, p)
	if err != nil {
		return reply{}, err
	}
	now := a.Now()
	return ok(paged(found, p,
		func(l *issuer.Login) string { return l.ID },
		func(l *issuer.Login) historyBody {
			b := historyBody{sessionBody: sessionView(&l.Session, q.claims.SessionID), Status: l.StatusAt(now)}
			if l.Failed {
				b.LastSeenAt, b.ExpiresAt = l.CreatedAt, l.CreatedAt
				b.EndedAt, b.EndReason = &l.CreatedAt, &l.EndReason
			} else if end := l.Ending(now); !end.At.IsZero() {
				b.EndedAt, b.EndReason, b.EndedBy = &end.At, &end.Reason, &end.By
			}
			return b
		}))
}

// renameField calls a bad field by the name that the caller sent.
func renameField(err error, from, to string) error {
	var fields identity.FieldErrors
	if !errors.As(err, &fields) {
		return err
	}
	renamed := make(identity.FieldErrors, len(fields))
	for i, f := range fields {
		if f.Field == from {
			f.Field = to
		}
		renamed[i] = f
	}
	return renamed
}
