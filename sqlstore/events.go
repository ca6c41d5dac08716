package sqlstore

import (
	"context"

	"github.com/sessiond/sessiond/session/issuer"
)

// event is a line of the audit trail. It outlives the account, so it holds no personal data.
type event struct {
	At                timestamp
	Type              string
	UserID, SessionID string
	Actor             issuer.Actor
	Detail            string
}

// The types of events.
const (
	eventSessionStarted  = "session.started"
	eventSessionRenewed  = "session.reauthenticated"
	eventSessionEnded    = "session.ended" // detail: the reason
	eventTokenRevoked    = "token.revoked" // detail: the jti
	eventRefreshTheft    = "refresh.theft"
	eventLoginFailed     = "login.failed" // detail: the reason
	eventUserRegistered  = "user.registered"
	eventUserDeleted     = "user.deleted"
	eventPasswordChanged = "password.changed"
	eventPasswordReset   = "password.reset"
	eventEmailChanged    = "email.changed"
	eventEmailVerified   = "email.verified"
)

var insertEvent = newStatement(`
	INSERT INTO events (at, type, user_id, session_id, actor, detail)
	VALUES (:at, :type, :user_id, :session_id, :actor, :detail)`)

func (t *tx) record(ctx context.Context, e event) error {
	_, err := t.exec(ctx, insertEvent, e)
	return err
}
