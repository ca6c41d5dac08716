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

// Sessions is the ledger of sessions.
type Sessions struct{ db *DB }

var _ issuer.Ledger = (*Sessions)(nil)

func (s *Sessions) wrap(operation string, err error) error {
	return wrap(operation, session.ErrUnavailable, err)
}

// The name is its user's, wherever a session is read: it is kept in one place, from
// where deleting the account takes it.
const sessionColumns = `id, user_id, (SELECT username FROM users WHERE users.id = sessions.user_id) AS username,
	token_id, ip, user_agent, device, amr, generation, created_at, last_seen_at, auth_time,
	access_expires_at, expires_at, max_expires_at, ended_at, end_reason, ended_by`

type sessionRow struct {
	ID              string        `db:"id"`
	UserID          string        `db:"user_id"`
	Username        string        `db:"username"`
	TokenID         string        `db:"token_id"`
	IP              string        `db:"ip"`
	UserAgent       string        `db:"user_agent"`
	Device          string        `db:"device"`
	AMR             string        `db:"amr"`
	Generation      int64         `db:"generation"`
	CreatedAt       stamp         `db:"created_at"`
	LastSeenAt      stamp         `db:"last_seen_at"`
	AuthTime        stamp         `db:"auth_time"`
	AccessExpiresAt stamp         `db:"access_expires_at"`
	ExpiresAt       stamp         `db:"expires_at"`
	MaxExpiresAt    stamp         `db:"max_expires_at"`
	EndedAt         stamp         `db:"ended_at"`
	EndReason       issuer.Reason `db:"end_reason"`
	EndedBy         issuer.Actor  `db:"ended_by"`
}

func (r *sessionRow) session() issuer.Session {
	return issuer.Session{
		ID:              r.ID,
		Subject:         r.UserID,
		Username:        r.Username,
		TokenID:         r.TokenID,
		Client:          issuer.Client{IP: r.IP, UserAgent: r.UserAgent, Device: r.Device},
		AMR:             r.AMR,
		Generation:      r.Generation,
		CreatedAt:       r.CreatedAt.Time,
		LastSeenAt:      r.LastSeenAt.Time,
		AuthTime:        r.AuthTime.Time,
		AccessExpiresAt: r.AccessExpiresAt.Time,
		ExpiresAt:       r.ExpiresAt.Time,
		MaxExpiresAt:    r.MaxExpiresAt.Time,
		EndedAt:         r.EndedAt.Time,
		EndReason:       r.EndReason,
		EndedBy:         r.EndedBy,
	}
}

func sessionsOf(rows []sessionRow) []issuer.Session {
	list := make([]issuer.Session, len(rows))
	for i := range rows {
		list[i] = rows[i].session()
	}
	return list
}

var insertSession = newStatement(`
	INSERT INTO sessions (id, user_id, token_id, ip, user_agent, device, amr, generation, created_at, last_seen_at,
		auth_time, access_expires_at, expires_at, max_expires_at, refresh_family, refresh_current)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)

// Start implements [issuer.Ledger].
func (s *Sessions) Start(ctx context.Context, start issuer.Start) (issuer.Session, []issuer.Revocation, error) {
	var started issuer.Session
	var displaced []issuer.Revocation
	err := s.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		how := inShare
		if start.MaxSessions > 0 {
			how = forUpdate // two logins at once must see each other's session
		}
		user, err := tx.proven(ctx, how, start.Subject, start.CredentialVersion)
		if err != nil {
			return err
		}
		if displaced, err = tx.makeRoom(ctx, start); err != nil {
			return err
		}
		now := micros(start.At)
		started = issuer.Session{
			ID:       start.ID,
			Subject:  start.Subject,
			Username: user.Username,
			TokenID:  start.TokenID,
			Client: issuer.Client{
				IP:        clean(start.Client.IP),
				UserAgent: clean(start.Client.UserAgent),
				Device:    clean(start.Client.Device),
			},
			AMR:             start.AMR,
			Generation:      user.Generation,
			CreatedAt:       now,
			LastSeenAt:      now,
			AuthTime:        now,
			AccessExpiresAt: micros(start.AccessExpiresAt),
			ExpiresAt:       micros(start.ExpiresAt),
			MaxExpiresAt:    micros(start.MaxExpiresAt),
		}
		if _, err := tx.exec(ctx, insertSession, started.ID, started.Subject, started.TokenID,
			started.IP, started.UserAgent, started.Device, started.AMR, started.Generation,
			at(now), at(now), at(now), at(started.AccessExpiresAt), at(started.ExpiresAt), at(started.MaxExpiresAt),
			start.RefreshFamily[:], start.RefreshCurrent[:]); err != nil {
			return err
		}
		return tx.record(ctx, event{at: now, kind: eventSessionStarted, user: start.Subject, session: start.ID, actor: issuer.ByUser})
	}, inShare, insertSession, insertEvent)
	if err != nil {
		return issuer.Session{}, nil, s.wrap("start session "+start.ID, err)
	}
	return started, displaced, nil
}

var openSessions = newStatement(`
	SELECT id FROM sessions WHERE user_id = ? AND ended_at IS NULL AND expires_at > ? ORDER BY id`)

// displacedAtOnce is how many sessions one login ends at most. More are in excess
// only when fewer became allowed than a user has: then each login brings them nearer.
const displacedAtOnce = 100

// makeRoom holds a user, who is locked for update, to the number of sessions
// that are allowed, the one that is about to start included.
func (t *tx) makeRoom(ctx context.Context, start issuer.Start) ([]issuer.Revocation, error) {
	if start.MaxSessions == 0 {
		return nil, nil
	}
	var ids []string
	if err := t.list(ctx, &ids, openSessions, start.Subject, at(start.At)); err != nil {
		return nil, err
	}
	excess := max(0, len(ids)-start.MaxSessions+1)
	if excess > 0 && !start.EndOldest {
		return nil, issuer.ErrTooManySessions
	}
	var displaced []issuer.Revocation
	for _, id := range ids[:min(excess, displacedAtOnce)] {
		end := issuer.Ending{At: start.At, Reason: issuer.ReasonSessionLimit, By: issuer.BySystem}
		_, revocation, _, err := t.end(ctx, start.Subject, id, end)
		if err != nil {
			return nil, err
		}
		displaced = append(displaced, revocation)
	}
	return displaced, nil
}

// proven locks a user, so that neither the password nor the generation
// changes before the transaction ends, and refuses one whose proof no longer holds.
func (t *tx) proven(ctx context.Context, how *statement, subject string, credentialVersion int64) (lockedUser, error) {
	user, err := t.lockUser(ctx, how, subject, issuer.ErrSubjectGone)
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

// One statement, and therefore one snapshot: a generation that is newer than
// the session would let through what was ended in between.
var findSession = newStatement(`
	SELECT ` + sessionColumns + `,
		(SELECT token_gen FROM users WHERE users.id = sessions.user_id) AS subject_generation,
		(SELECT max(access_expires_at) FROM sessions AS s WHERE s.user_id = sessions.user_id) AS subject_until,
		(SELECT string_agg(jti, ' ') FROM revoked_tokens WHERE session_id = sessions.id AND revoked_tokens.expires_at > ?) AS revoked_tokens
	FROM sessions WHERE id = ? AND user_id = ?`)

// Find implements [issuer.Ledger]. A revoked token is listed until
// [issuer.Margin] after its expiry, because a check accepts it for a part of
// that time.
func (s *Sessions) Find(ctx context.Context, subject, id string, now time.Time) (issuer.Record, error) {
	var row struct {
		sessionRow
		SubjectGeneration int64   `db:"subject_generation"`
		SubjectUntil      stamp   `db:"subject_until"`
		RevokedTokens     *string `db:"revoked_tokens"`
	}
	err := s.db.get(ctx, &row, issuer.ErrNotFound, findSession, at(now.Add(-issuer.Margin)), id, subject)
	if err != nil {
		return issuer.Record{}, s.wrap("find session "+id, err)
	}
	record := issuer.Record{
		Session:           row.session(),
		SubjectGeneration: row.SubjectGeneration,
		SubjectUntil:      row.SubjectUntil.Time,
	}
	if row.RevokedTokens != nil {
		record.RevokedTokens = strings.Fields(*row.RevokedTokens)
	}
	return record, nil
}

var activeSessions = newStatement(`
	SELECT ` + sessionColumns + ` FROM sessions
	WHERE user_id = ? AND ended_at IS NULL AND expires_at > ? AND id < ?
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
	allSessions = newStatement(`
		SELECT ` + sessionColumns + ` FROM sessions
		WHERE user_id = ? AND id < ? ORDER BY id DESC LIMIT ?`)
	failedLogins = newStatement(`
		SELECT id, ip, user_agent, device, reason, created_at FROM login_attempts
		WHERE user_id = ? AND id < ? ORDER BY id DESC LIMIT ?`)
)

// History implements [issuer.Ledger].
func (s *Sessions) History(ctx context.Context, subject string, page issuer.Page) ([]issuer.Login, error) {
	var rows []sessionRow
	var failed []struct {
		ID        string        `db:"id"`
		IP        string        `db:"ip"`
		UserAgent string        `db:"user_agent"`
		Device    string        `db:"device"`
		Reason    issuer.Reason `db:"reason"`
		CreatedAt stamp         `db:"created_at"`
	}
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
			EndReason: f.Reason,
		}})
	}
	slices.SortFunc(logins, func(a, b issuer.Login) int { return cmp.Compare(b.ID, a.ID) })
	if page.Limit > 0 && len(logins) > page.Limit {
		logins = logins[:page.Limit]
	}
	return logins, nil
}

// before is the id that a page begins below: one that no id reaches for the first.
func before(page issuer.Page) string { return cmp.Or(page.Before, "~") }

func limit(page issuer.Page) int64 {
	if page.Limit <= 0 {
		return math.MaxInt64
	}
	return int64(page.Limit)
}
