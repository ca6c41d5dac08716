package api

import (
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

// loginBody is one entry of a user's login history.
type loginBody struct {
	sessionBody
	Status    issuer.Status  `json:"status"`
	EndedAt   *time.Time     `json:"ended_at"`
	EndReason *issuer.Reason `json:"end_reason"`
	EndedBy   *issuer.Actor  `json:"ended_by"`
}

func showLogin(l *issuer.Login, current string, now time.Time) loginBody {
	b := loginBody{sessionBody: showSession(&l.Session, current), Status: l.StatusAt(now)}
	if l.Failed {
		// Show the user no text of somebody who failed to sign in, because it may be a lure.
		b.UserAgent = ""
		b.LastSeenAt, b.ExpiresAt = l.CreatedAt, l.CreatedAt
		b.EndedAt, b.EndReason = &l.CreatedAt, &l.EndReason
	} else if end := l.Ending(now); !end.At.IsZero() {
		b.EndedAt, b.EndReason, b.EndedBy = &end.At, &end.Reason, &end.By
	}
	return b
}

// listLogins lists the user's login history: active sessions, ended sessions and failed logins.
func (a *API) listLogins(q *request, p issuer.Page) (reply, error) {
	found, err := a.Sessions.History(q.Context(), q.claims.Subject, p)
	now := a.Now()
	return ok(listOf(found, p,
		func(l *issuer.Login) string { return l.ID },
		func(l *issuer.Login) loginBody { return showLogin(l, q.claims.SessionID, now) })), err
}
