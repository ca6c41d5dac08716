package sqlstore

import (
	"context"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

// event is a line of the audit trail. It outlives the account, so it holds no
// personal data.
type event struct {
	at      time.Time
	kind    string
	user    string
	session string
	actor   issuer.Actor
	detail  string
}

// The kinds of events.
const (
	eventSessionStarted  = "session.started"
	eventSessionRenewed  = "session.reauthenticated"
	eventSessionEnded    = "session.ended" // detail: the reason
	eventTokenRevoked    = "token.revoked" // detail: its jti
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
	INSERT INTO events (at, type, user_id, session_id, actor, detail) VALUES (?, ?, ?, ?, ?, ?)`)

func (t *tx) record(ctx context.Context, e event) error {
	_, err := t.exec(ctx, insertEvent, at(e.at), e.kind, e.user, e.session, string(e.actor), e.detail)
	return err
}
