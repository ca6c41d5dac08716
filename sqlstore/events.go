package sqlstore

import (
	"context"

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
