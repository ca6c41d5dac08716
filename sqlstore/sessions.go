package sqlstore

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// Sessions is the ledger of sessions in an SQL database. It implements [issuer.Ledger].
type Sessions struct{ db, epochs *DB }

var _ issuer.Ledger = (*Sessions)(nil)

func (s *Sessions) wrap(operation string, err error) error {
	return wrap(operation, session.ErrUnavailable, err)
}

// selectSession reads sessions with their username and roles, which are only in the table users, so that
// sessions of a deleted account have none. An ending of all sessions of a user is a row of session_endings. It ended a
// session that was below its generation and had neither ended nor expired. Generation 0 marks a session
// that had expired before it was revoked.
const (
	selectSession  = `SELECT ` + sessionColumns + sessionTables
	sessionColumns = `id, user_id AS subject, (SELECT username FROM users WHERE users.id = sessions.user_id) AS username,
	(SELECT roles FROM users WHERE users.id = sessions.user_id) AS roles,
	token_id, ip, user_agent, device, amr, generation, created_at, last_seen_at, auth_time,
	access_expires_at, expires_at, max_expires_at, coalesce(ended_at, ending.at) AS ended_at,
	coalesce(ending.reason, end_reason) AS end_reason, coalesce(ending.actor, ended_by) AS ended_by`
	sessionTables = `
	FROM sessions LEFT JOIN session_endings AS ending ON ended_at IS NULL AND generation > 0
		AND ending.owner_id = user_id AND ending.at < expires_at AND ending.below =
			(SELECT min(below) FROM session_endings WHERE owner_id = user_id AND below > generation)`
)

// isOpen is the condition that a session has neither ended nor expired.
const isOpen = `ended_at IS NULL AND expires_at > ? AND generation = ?`

// sessionRow is a row that was read with selectSession. Its time fields are used in place of those
// in issuer.Session, because SQLite stores times as text.
type sessionRow struct {
	issuer.Session
	CreatedAt, LastSeenAt, AuthTime, AccessExpiresAt, ExpiresAt, MaxExpiresAt, EndedAt timestamp
}

func (r *sessionRow) session() issuer.Session {
	s := r.Session
	s.CreatedAt, s.LastSeenAt, s.AuthTime = r.CreatedAt.Time, r.LastSeenAt.Time, r.AuthTime.Time
	s.AccessExpiresAt, s.ExpiresAt, s.MaxExpiresAt = r.AccessExpiresAt.Time, r.ExpiresAt.Time, r.MaxExpiresAt.Time
	s.EndedAt = r.EndedAt.Time
	return s
}

func sessionsOf(rows []sessionRow) []issuer.Session {
	list := make([]issuer.Session, len(rows))
	for i := range rows {
		list[i] = rows[i].session()
	}
	return list
}

var insertSession = newStatement(`
	INSERT INTO sessions (id, user_id, token_id, ip, user_agent, device, amr, generation,
		created_at, last_seen_at, auth_time, access_expires_at, expires_at, max_expires_at, refresh_family, refresh_current)
	VALUES (:id, :subject, :token_id, :ip, :user_agent, :device, :amr, :generation,
		:created_at, :last_seen_at, :auth_time, :access_expires_at, :expires_at, :max_expires_at, :refresh_family, :refresh_current)`)

// Start implements [issuer.Ledger].
func (s *Sessions) Start(ctx context.Context, start issuer.Start) (issuer.Session, []issuer.Revocation, error) {
	var started issuer.Session
	var displaced []issuer.Revocation
	mode, prepare := forShare, []*statement{forShare, insertSession, insertEvent}
	if start.MaxSessions > 0 {
		mode = forUpdate // otherwise two concurrent logins could exceed the session limit
		prepare = []*statement{forUpdate, openSessions, insertSession, insertEvent}
	}
	err := s.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		user, err := tx.lockVerified(ctx, mode, start.Subject, start.CredentialVersion)
		if err != nil {
			return err
		}
		if displaced, err = tx.enforceSessionLimit(ctx, user, start); err != nil {
			return err
		}
		now := at(start.At)
		row := refreshRow{
			sessionRow: sessionRow{
				Session: issuer.Session{
					ID: start.ID, Subject: start.Subject, Username: user.Username, Roles: user.Roles, TokenID: start.TokenID,
					Client: issuer.Client{IP: clean(start.Client.IP), UserAgent: clean(start.Client.UserAgent), Device: clean(start.Client.Device)},
					AMR:    start.AMR, Generation: user.Generation,
				},
				CreatedAt: now, LastSeenAt: now, AuthTime: now,
				AccessExpiresAt: at(start.AccessExpiresAt), ExpiresAt: at(start.ExpiresAt), MaxExpiresAt: at(start.MaxExpiresAt),
			},
			RefreshFamily:  start.RefreshFamily[:],
			RefreshCurrent: start.RefreshCurrent[:],
		}
		if _, err := tx.exec(ctx, insertSession, row); err != nil {
			return err
		}
		started = row.session()
		return tx.record(ctx, event{At: now, Type: eventSessionStarted, UserID: start.Subject, SessionID: start.ID, Actor: issuer.ByUser})
	}, prepare...)
	return started, displaced, s.wrap("start session "+start.ID, err)
}

var openSessions = newStatement(`SELECT id FROM sessions WHERE user_id = ? AND ` + isOpen + ` ORDER BY id`)

// maxDisplaced is the maximum number of sessions that one login ends to keep the session limit.
// More sessions exceed the limit only after an operator lowered it. Each login then ends some of
// them.
const maxDisplaced = 100

// enforceSessionLimit ends the user's oldest sessions so that a new session does not exceed the
// limit. If start.EndOldest is false, it ends no session and returns [issuer.ErrTooManySessions] if
// the limit is reached. The user must be locked for update.
func (t *tx) enforceSessionLimit(ctx context.Context, user lockedUser, start issuer.Start) ([]issuer.Revocation, error) {
	if start.MaxSessions == 0 {
		return nil, nil
	}
	var ids []string
	if err := t.list(ctx, &ids, openSessions, user.ID, at(start.At), user.Generation); err != nil {
		return nil, err
	}
	excess := max(0, len(ids)-start.MaxSessions+1)
	if excess > 0 && !start.EndOldest {
		return nil, issuer.ErrTooManySessions
	}
	var displaced []issuer.Revocation
	for _, id := range ids[:min(excess, maxDisplaced)] {
		end := issuer.Ending{At: start.At, Reason: issuer.ReasonSessionLimit, By: issuer.BySystem}
		_, revocation, _, err := t.revoke(ctx, user, id, end)
		if err != nil {
			return nil, err
		}
		displaced = append(displaced, revocation)
	}
	return displaced, nil
}

// lockVerified locks a user whose password was checked before the transaction, so that the password
// and the generation cannot change until the transaction ends. It returns an error if the password
// has changed since the check or the user is not active.
func (t *tx) lockVerified(ctx context.Context, mode *statement, subject string, credentialVersion int64) (lockedUser, error) {
	user, err := t.lockRow(ctx, mode, subject, issuer.ErrSubjectGone)
	switch {
	case err != nil:
		return user, err
	case user.Status != identity.StatusActive:
		return user, issuer.ErrSubjectGone
	case user.PasswordVersion != credentialVersion:
		return user, issuer.ErrCredentialChanged
	}
	return user, nil
}

// findSession reads session, generation and attributes in one statement, so that all are from the same
// moment. Otherwise a session that was revoked between two reads could count as active.
var findSession = newStatement(`
	SELECT ` + sessionColumns + `,
		(SELECT token_gen FROM users WHERE users.id = sessions.user_id) AS subject_generation,
		(SELECT claims FROM users WHERE users.id = sessions.user_id) AS claims,
		(SELECT max(access_expires_at) FROM sessions AS s WHERE s.user_id = sessions.user_id) AS subject_until,
		(SELECT string_agg(jti, ' ') FROM revoked_tokens WHERE session_id = sessions.id AND revoked_tokens.expires_at > ?) AS revoked_tokens` +
	sessionTables + ` WHERE id = ? AND user_id = ?`)

// Find implements [issuer.Ledger]. It returns a revoked token until [issuer.Margin] after the
// token's expiry, because checks accept a token for a short time after its expiry.
func (s *Sessions) Find(ctx context.Context, subject, id string, now time.Time) (issuer.Record, error) {
	var row struct {
		sessionRow
		SubjectGeneration int64
		SubjectUntil      timestamp
		Claims            string
		RevokedTokens     *string
	}
	err := s.db.get(ctx, &row, issuer.ErrNotFound, findSession, at(now.Add(-issuer.Margin)), id, subject)
	if err != nil {
		return issuer.Record{}, s.wrap("find session "+id, err)
	}
	record := issuer.Record{
		Session:           row.session(),
		SubjectGeneration: row.SubjectGeneration,
		SubjectUntil:      row.SubjectUntil.Time,
		Attributes:        session.Attributes{Roles: row.Roles, Custom: row.Claims},
	}
	if row.RevokedTokens != nil {
		record.RevokedTokens = strings.Fields(*row.RevokedTokens)
	}
	return record, nil
}

var activeSessions = newStatement(selectSession + `
	WHERE user_id = ? AND ended_at IS NULL AND expires_at > ?
		AND generation = (SELECT token_gen FROM users WHERE users.id = user_id) AND id < ?
	ORDER BY id DESC LIMIT ?`)

// Active implements [issuer.Ledger].
func (s *Sessions) Active(ctx context.Context, subject string, now time.Time, page issuer.Page) ([]issuer.Session, error) {
	var rows []sessionRow
	if err := s.db.list(ctx, &rows, activeSessions, subject, at(now), before(page), limit(page)); err != nil {
		return nil, s.wrap("list the active sessions of "+subject, err)
	}
	return sessionsOf(rows), nil
}

var (
	allSessions  = newStatement(selectSession + ` WHERE user_id = ? AND id < ? ORDER BY id DESC LIMIT ?`)
	failedLogins = newStatement(`
		SELECT id, ip, user_agent, device, reason, created_at FROM login_attempts
		WHERE user_id = ? AND id < ? ORDER BY id DESC LIMIT ?`)
)

// History implements [issuer.Ledger].
func (s *Sessions) History(ctx context.Context, subject string, page issuer.Page) ([]issuer.Login, error) {
	var rows []sessionRow
	var failed []attemptRow
	err := s.db.list(ctx, &rows, allSessions, subject, before(page), limit(page))
	if err == nil {
		err = s.db.list(ctx, &failed, failedLogins, subject, before(page), limit(page))
	}
	if err != nil {
		return nil, s.wrap("list the logins of "+subject, err)
	}
	logins := make([]issuer.Login, 0, len(rows)+len(failed))
	for i := range rows {
		logins = append(logins, issuer.Login{Session: rows[i].session()})
	}
	for _, f := range failed {
		logins = append(logins, issuer.Login{Failed: true, Session: issuer.Session{
			ID:        f.ID,
			Client:    issuer.Client{IP: f.IP, UserAgent: f.UserAgent, Device: f.Device},
			CreatedAt: f.CreatedAt.Time,
			EndReason: issuer.Reason(f.Reason),
		}})
	}
	slices.SortFunc(logins, func(a, b issuer.Login) int { return cmp.Compare(b.ID, a.ID) })
	if page.Limit > 0 && len(logins) > page.Limit {
		logins = logins[:page.Limit]
	}
	return logins, nil
}

// before returns a text that sorts after all ids of a page. "~" sorts after every id.
func before(page issuer.Page) string { return cmp.Or(page.Before, "~") }

// limit returns the maximum number of rows in a page. If page.Limit is 0, the page has all rows.
func limit(page issuer.Page) int64 {
	if page.Limit <= 0 {
		return math.MaxInt64
	}
	return int64(page.Limit)
}
