package sqlstore

import (
	"context"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session/issuer"
)

// event is an entry of the audit trail. It has no personal data, because it stays after the account
// is deleted.
type event struct {
	At                timestamp
	Type              string
	UserID, SessionID string
	Actor             issuer.Actor
	Detail            string
}

// The types of events in the audit trail.
const (
	eventSessionStarted  = "session.started"
	eventSessionRenewed  = "session.reauthenticated"
	eventSessionEnded    = "session.ended"  // the event's detail is the reason why the session ended
	eventSessionsEnded   = "sessions.ended" // all sessions of the user but session_id, which may be empty; the detail is the reason
	eventTokenRevoked    = "token.revoked"  // the event's detail is the token's jti
	eventRefreshTheft    = "refresh.theft"
	eventLoginFailed     = "login.failed" // the event's detail is the reason why the login failed
	eventUserRegistered  = "user.registered"
	eventUserDeleted     = "user.deleted"
	eventPasswordChanged = "password.changed"
	eventPasswordReset   = "password.reset"
	eventEmailRequested  = "email.change_requested"
	eventEmailChanged    = "email.changed"
	eventEmailUndone     = "email.change_undone"
	eventEmailVerified   = "email.verified"
)

var insertEvent = newStatement(`
	INSERT INTO events (at, type, user_id, session_id, actor, detail)
	VALUES (:at, :type, :user_id, :session_id, :actor, :detail)`)

func (t *tx) record(ctx context.Context, e event) error {
	_, err := t.exec(ctx, insertEvent, e)
	return err
}

var eventsOfUser = newStatement(`
	SELECT seq AS number, at, type, session_id, actor, detail FROM events WHERE user_id = ? AND seq > ? ORDER BY seq LIMIT ?`)

// EventsOf implements [identity.Store].
func (u *Users) EventsOf(ctx context.Context, userID string, after int64, limit int) ([]identity.Event, error) {
	var rows []struct {
		identity.Event
		At timestamp
	}
	err := u.db.list(ctx, &rows, eventsOfUser, userID, after, limit)
	events := make([]identity.Event, len(rows))
	for i, r := range rows {
		events[i] = r.Event
		events[i].At = r.At.Time
	}
	return events, u.wrap("read the events of "+userID, err)
}
