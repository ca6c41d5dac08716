package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/audit"
	"github.com/sessiond/sessiond/session/issuer"
)

// Events is the audit trail in an SQL database. It implements [audit.Store].
type Events struct{ db *DB }

var _ audit.Store = (*Events)(nil)

func (e *Events) wrap(operation string, err error) error {
	return wrap(operation, identity.ErrUnavailable, err)
}

// event is an event that a transaction records.
type event struct {
	At                timestamp
	Type              string
	UserID, SessionID string
	Actor             issuer.Actor
	Detail            string
	Before, After     string
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
	eventUserSuspended   = "user.suspended"
	eventUserReinstated  = "user.reinstated"
	eventRolesChanged    = "user.roles_changed"   // before and after are the roles
	eventClaimsChanged   = "user.claims_changed"  // before and after are the claims
	eventProfileChanged  = "user.profile_changed" // the event's detail lists the fields
	eventPasswordChanged = "password.changed"
	eventPasswordReset   = "password.reset"
	eventEmailRequested  = "email.change_requested"
	eventEmailChanged    = "email.changed"
	eventEmailUndone     = "email.change_undone"
	eventEmailVerified   = "email.verified"
	eventMailRequested   = "mail.requested"       // an operator had a mail sent; the detail is its kind
	eventBulkRequested   = "revocation.requested" // sessions of all users by a filter; the detail is its id, after is the filter
	eventBulkFinished    = "revocation.finished"  // the event's detail is its id, after is the number of sessions
	eventClientAdded     = "client.added"         // the event's detail is the client's id, after are the scopes
	eventClientRotated   = "client.rotated"
	eventClientRevoked   = "client.revoked"
)

var insertEvent = newStatement(`
	INSERT INTO events (at, type, user_id, session_id, actor, actor_id, address, detail, before, after, reason)
	VALUES (:at, :type, :user_id, :session_id, :actor, :actor_id, :address, :detail, :before, :after, :reason)`)

// recordedEvent is an event with what its act says.
type recordedEvent struct {
	event
	Actor, ActorID, Address, Reason string
}

// record adds an event. If the context has an act, the event says who did it.
func (t *tx) record(ctx context.Context, e event) error {
	_, err := t.exec(ctx, insertEvent, stamped(ctx, e))
	return err
}

func stamped(ctx context.Context, e event) recordedEvent {
	row := recordedEvent{event: e, Actor: string(e.Actor)}
	if act, ok := audit.Of(ctx); ok {
		row.Actor, row.ActorID, row.Address, row.Reason = act.Actor, clean(act.ActorID), clean(act.Address), clean(act.Reason)
	}
	return row
}

// Record implements [audit.Store].
func (e *Events) Record(ctx context.Context, act audit.Event) error {
	return e.wrap("record an event", e.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		return tx.record(ctx, event{
			At: at(act.At), Type: act.Type, UserID: act.UserID, SessionID: act.SessionID,
			Actor: issuer.Actor(act.Actor), Detail: act.Detail, Before: act.Before, After: act.After,
		})
	}))
}

const selectEvent = `
	SELECT seq, coalesce(number, 0) AS number, previous, at, type, user_id, session_id, actor, actor_id, address, detail, before, after, reason
	FROM events `

var (
	eventsOfUser = newStatement(selectEvent + `WHERE user_id = ? AND seq > ? ORDER BY seq LIMIT ?`)
	// The event types and the users have indexes of their own.
	sealedEvents       = newStatement(selectEvent + `WHERE number > 0 AND number > ? ORDER BY events.number LIMIT ?`)
	sealedEventsOfType = newStatement(selectEvent + `WHERE number > 0 AND number > ? AND type = ? ORDER BY events.number LIMIT ?`)
	sealedEventsOfUser = newStatement(selectEvent + `
		WHERE seq IN (SELECT seq FROM events WHERE user_id = ? AND number > 0 AND number > ? AND (? = '' OR type = ?) ORDER BY number LIMIT ?)
		ORDER BY events.number`)
	// unsealedEvents locks the events. Otherwise the retention could remove one that gets a number.
	unsealedEvents = newStatement(selectEvent + `WHERE number IS NULL ORDER BY seq LIMIT ? FOR UPDATE`)

	// lockChain skips the row if another replica seals.
	lockChain = newStatement(`SELECT number, hash, forgotten FROM event_chain FOR UPDATE SKIP LOCKED`)
	readChain = newStatement(`SELECT number, hash, forgotten FROM event_chain`)
	moveChain = newStatement(`UPDATE event_chain SET number = ?, hash = ?`)

	errChainTaken = errors.New("another replica seals events")
)

type eventRow struct {
	audit.Event
	At timestamp
}

func eventsOf(rows []eventRow) []audit.Event {
	events := make([]audit.Event, len(rows))
	for i := range rows {
		events[i] = rows[i].Event
		events[i].At = rows[i].At.Time
	}
	return events
}

// EventsOf implements [identity.Store].
func (u *Users) EventsOf(ctx context.Context, userID string, after int64, limit int) ([]audit.Event, error) {
	var rows []eventRow
	err := u.db.list(ctx, &rows, eventsOfUser, userID, after, limit)
	return eventsOf(rows), u.wrap("read the events of "+userID, err)
}

// Events implements [audit.Store].
func (e *Events) Events(ctx context.Context, q audit.Query) ([]audit.Event, error) {
	var rows []eventRow
	var err error
	switch {
	case q.UserID != "":
		err = e.db.list(ctx, &rows, sealedEventsOfUser, q.UserID, q.After, q.Type, q.Type, q.Limit)
	case q.Type != "":
		err = e.db.list(ctx, &rows, sealedEventsOfType, q.After, q.Type, q.Limit)
	default:
		err = e.db.list(ctx, &rows, sealedEvents, q.After, q.Limit)
	}
	return eventsOf(rows), e.wrap("list events", err)
}

// Head implements [audit.Store].
func (e *Events) Head(ctx context.Context) (head audit.Head, err error) {
	err = e.db.get(ctx, &head, nil, readChain)
	return head, e.wrap("read the end of the chain of events", err)
}

// Seal implements [audit.Store]. The order of the chain is the order in which events are sealed: an event
// whose transaction took long has a higher number than one that began later.
func (e *Events) Seal(ctx context.Context, limit int) ([]audit.Event, error) {
	var events []audit.Event
	err := e.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		events = nil
		var head audit.Head
		if err := tx.get(ctx, &head, errChainTaken, lockChain); err != nil {
			return err
		}
		var rows []eventRow
		if err := tx.list(ctx, &rows, unsealedEvents, limit); err != nil || len(rows) == 0 {
			return err
		}
		events = eventsOf(rows)
		var links []any
		for i := range events {
			head.Number++
			events[i].Number, events[i].Previous = head.Number, head.Hash
			head.Hash = events[i].Hash()
			links = append(links, events[i].Seq, events[i].Number, events[i].Previous)
		}
		values := strings.Join(slices.Repeat([]string{"(?::bigint, ?::bigint, ?::bytea)"}, len(events)), ", ")
		n, err := tx.exec(ctx, newStatement(`
			UPDATE events SET number = chain.column2, previous = chain.column3
			FROM (VALUES `+values+`) AS chain WHERE seq = chain.column1`), links...)
		if err == nil && n != int64(len(events)) {
			err = fmt.Errorf("sqlstore: sealed %d of %d events", n, len(events))
		}
		if err == nil {
			_, err = tx.exec(ctx, moveChain, head.Number, head.Hash)
		}
		return err
	})
	if errors.Is(err, errChainTaken) {
		return nil, nil
	}
	return events, e.wrap("seal events", err)
}
