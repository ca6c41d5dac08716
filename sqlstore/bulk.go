package sqlstore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/sessiond/sessiond/identity/audit"
	"github.com/sessiond/sessiond/session/issuer"
)

// bulkRow is a row of the table bulk_revocations. The reason of the sessions' end is always
// [issuer.ReasonAdministrator]. The column reason is the act's.
type bulkRow struct {
	ID, Filter                         string
	Actor, ActorID, Address, Reason    string
	State                              issuer.BulkState
	DoneTo                             string
	Matched, Revoked                   int64
	BatchAt                            timestamp // the time of the latest batch
	StartedAt, FinishedAt, LeasedUntil timestamp
	LeasedBy                           string
}

func (r *bulkRow) bulk() (issuer.Bulk, error) {
	b := issuer.Bulk{
		ID: r.ID, Reason: issuer.ReasonAdministrator, State: r.State, Matched: r.Matched, Revoked: r.Revoked,
		StartedAt: r.StartedAt.Time, FinishedAt: r.FinishedAt.Time,
	}
	if err := json.Unmarshal([]byte(r.Filter), &b.Filter); err != nil {
		return b, fmt.Errorf("sqlstore: read the filter of revocation %s: %w", r.ID, err)
	}
	return b, nil
}

var (
	insertBulk = newStatement(`
		INSERT INTO bulk_revocations (id, filter, actor, actor_id, address, reason, state, done_to, started_at, leased_by, leased_until)
		VALUES (:id, :filter, :actor, :actor_id, :address, :reason, :state, '', :started_at, :leased_by, :leased_until)`)
	selectBulk = `SELECT id, filter, actor, actor_id, address, reason, state, done_to, matched, revoked, batch_at, started_at, finished_at FROM bulk_revocations `
	readBulk   = newStatement(selectBulk + `WHERE id = ?`)
	lockBulk   = newStatement(selectBulk + `WHERE id = ? FOR UPDATE`)
	// claimBulk claims the revocation that nobody has claimed for longest. The inner query is materialized for the
	// reason that claimOutbox names.
	claimBulk = newStatement(`
		WITH free AS MATERIALIZED (
			SELECT id FROM bulk_revocations WHERE finished_at IS NULL AND (leased_until IS NULL OR leased_until < ?)
			ORDER BY leased_until IS NOT NULL, leased_until, id LIMIT 1 FOR UPDATE SKIP LOCKED
		)
		UPDATE bulk_revocations SET leased_by = ?, leased_until = ? WHERE id IN (SELECT id FROM free)
		RETURNING id`)
	keepBulk = newStatement(`
		UPDATE bulk_revocations SET leased_by = ?, leased_until = ?
		WHERE id = ? AND finished_at IS NULL AND (leased_by = ? OR leased_until IS NULL OR leased_until < ?)
		RETURNING id`)
	// oldestRevocation returns when the oldest revocation that waits was recorded. Each topic has a min of its own,
	// because that takes one step in an index.
	oldestRevocation = newStatement(`
		SELECT min(queued_at) FROM (
			SELECT min(queued_at) AS queued_at FROM outbox WHERE topic = ?
			UNION ALL SELECT min(queued_at) FROM outbox WHERE topic = ?) AS oldest`)
	saveBulk = newStatement(`
		UPDATE bulk_revocations SET state = :state, done_to = :done_to, matched = :matched, revoked = :revoked, batch_at = :batch_at, finished_at = :finished_at
		WHERE id = :id`)
)

// StartBulk implements [issuer.Ledger].
func (s *Sessions) StartBulk(ctx context.Context, b issuer.Bulk, owner string, lease time.Duration) error {
	filter, err := json.Marshal(b.Filter)
	if err != nil {
		return fmt.Errorf("sqlstore: encode a filter: %w", err)
	}
	row := bulkRow{ID: b.ID, Filter: string(filter), State: b.State, StartedAt: at(b.StartedAt)}
	if owner != "" {
		row.LeasedBy, row.LeasedUntil = owner, at(b.StartedAt.Add(lease))
	}
	row.stamp(ctx)
	return s.wrap("start a revocation of sessions", s.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		if _, err := tx.exec(ctx, insertBulk, row); err != nil {
			return err
		}
		return tx.record(ctx, event{At: row.StartedAt, Type: eventBulkRequested, Detail: b.ID, After: row.Filter})
	}))
}

// stamp notes the act of the context, because another replica may do the revocation.
func (r *bulkRow) stamp(ctx context.Context) {
	act := stamped(ctx, event{})
	r.Actor, r.ActorID, r.Address, r.Reason = act.Actor, act.ActorID, act.Address, act.Reason
}

// act returns the context of the act that asked for the revocation.
func (r *bulkRow) act(ctx context.Context) context.Context {
	return audit.With(ctx, audit.Act{Actor: r.Actor, ActorID: r.ActorID, Address: r.Address, Reason: r.Reason})
}

// Bulk implements [issuer.Ledger].
func (s *Sessions) Bulk(ctx context.Context, id string) (issuer.Bulk, error) {
	var row bulkRow
	if err := s.db.get(ctx, &row, issuer.ErrNotFound, readBulk, id); err != nil {
		return issuer.Bulk{}, s.wrap("read revocation "+id, err)
	}
	return row.bulk()
}

// ClaimBulk implements [issuer.Ledger].
func (s *Sessions) ClaimBulk(ctx context.Context, id, owner string, now time.Time, lease time.Duration) (claimed string, err error) {
	until := at(now.Add(lease))
	if id == "" {
		err = s.db.get(ctx, &claimed, issuer.ErrNotFound, claimBulk, at(now), owner, until)
	} else {
		err = s.db.get(ctx, &claimed, issuer.ErrNotFound, keepBulk, owner, until, id, owner, at(now))
	}
	return claimed, s.wrap("claim a revocation of sessions", err)
}

// StepBulk implements [issuer.Ledger].
func (s *Sessions) StepBulk(ctx context.Context, id string, now time.Time, limit int) (issuer.Bulk, []issuer.Revocation, error) {
	var b issuer.Bulk
	var ended []issuer.Revocation
	err := s.db.inTx(ctx, func(ctx context.Context, tx *tx) (err error) {
		var row bulkRow
		if err := tx.get(ctx, &row, issuer.ErrNotFound, lockBulk, id); err != nil {
			return err
		}
		if b, err = row.bulk(); err != nil {
			return err
		}
		waits := false
		q := newSearch(b.Filter, now, row.DoneTo, limit)
		switch {
		case row.State == issuer.BulkCounting:
			ended, err = nil, tx.countPart(ctx, &row, &q)
		case row.State == issuer.BulkRevoking && row.DoneTo != bulkEnd:
			ended, err = tx.endPart(row.act(ctx), &row, &q, now)
		default:
			ended = nil
			waits, err = tx.finishBulk(row.act(ctx), &row, now)
		}
		if err == nil {
			_, err = tx.exec(ctx, saveBulk, row)
		}
		if err == nil {
			b, err = row.bulk()
			b.Waits = waits
		}
		return err
	})
	if err != nil {
		return issuer.Bulk{}, nil, s.wrap("continue revocation "+id, err)
	}
	return b, ended, nil
}

// countPart counts a part of the sessions.
func (t *tx) countPart(ctx context.Context, row *bulkRow, q *search) error {
	n, next, err := t.count(ctx, q)
	row.Matched += n
	if row.DoneTo = next; next == "" {
		row.State = issuer.BulkRevoking
	}
	return err
}

// finishBulk changes the state to BulkDone, unless a revocation from before waits: of this bulk, or of an earlier
// act that ended sessions which the filter would select. It looks after the row was locked, because another
// replica may have done the last batch until then.
func (t *tx) finishBulk(ctx context.Context, row *bulkRow, now time.Time) (waits bool, err error) {
	var oldest timestamp
	if err := t.get(ctx, &oldest, nil, oldestRevocation, topicRevocation, topicEarlier); err != nil {
		return false, err
	}
	if !oldest.IsZero() && !oldest.After(later(row.BatchAt.Time, row.StartedAt.Time)) {
		return true, nil
	}
	if row.State == issuer.BulkDone {
		return false, nil
	}
	row.State, row.FinishedAt = issuer.BulkDone, at(now)
	return false, t.record(ctx, event{At: at(now), Type: eventBulkFinished, Detail: row.ID, After: strconv.FormatInt(row.Revoked, 10)})
}

// bulkEnd is the value of done_to once no session is left.
const bulkEnd = " "

// endPart ends up to q.Limit sessions that the filter selects, and moves done_to.
func (t *tx) endPart(ctx context.Context, row *bulkRow, q *search, now time.Time) ([]issuer.Revocation, error) {
	next, err := t.part(ctx, q)
	if err != nil {
		return nil, err
	}
	var picked []struct{ ID, UserID string }
	if err := t.list(ctx, &picked, q.statement(`SELECT id, user_id FROM sessions`, ` ORDER BY id DESC LIMIT :limit`), *q); err != nil {
		return nil, err
	}
	switch {
	case len(picked) == q.Limit: // the part may have more
		row.DoneTo = picked[len(picked)-1].ID
	case next == "":
		row.DoneTo = bulkEnd
	default:
		row.DoneTo = next
	}
	if len(picked) == 0 {
		return nil, nil
	}
	var ids, users []string
	for _, p := range picked {
		ids, users = append(ids, p.ID), append(users, p.UserID)
	}
	ended, err := t.endSessions(ctx, ids, users, now)
	row.Revoked += int64(len(ended))
	row.BatchAt = at(later(row.BatchAt.Time, now))
	return ended, err
}

const (
	lockUsers = `SELECT id FROM users WHERE id IN (?) ORDER BY id FOR SHARE`
	// A session that has ended or moved since it was picked stays as it is.
	endPicked = `
		UPDATE sessions SET ended_at = ?, end_reason = ?, ended_by = ?
		WHERE id IN (?) AND ended_at IS NULL AND expires_at > ? AND generation = (SELECT token_gen FROM users WHERE users.id = user_id)
		RETURNING id, user_id, access_expires_at`
)

// endSessions ends sessions of several users, and adds the revocations to the outbox. They are due only after
// a lease, because the caller enforces them.
func (t *tx) endSessions(ctx context.Context, ids, users []string, now time.Time) ([]issuer.Revocation, error) {
	var locked []string
	if err := t.listIn(ctx, &locked, lockUsers, users); err != nil {
		return nil, err
	}
	var ended []struct {
		ID, UserID      string
		AccessExpiresAt timestamp
	}
	err := t.listIn(ctx, &ended, endPicked, at(now), string(issuer.ReasonAdministrator), string(issuer.ByAdministrator), ids, at(now))
	if err != nil || len(ended) == 0 {
		return nil, err
	}
	var events, entries []any
	for _, e := range ended {
		v := stamped(ctx, event{At: at(now), Type: eventSessionEnded, UserID: e.UserID, SessionID: e.ID, Detail: string(issuer.ReasonAdministrator)})
		events = append(events, v.At, v.Type, v.UserID, v.SessionID, v.Actor, v.ActorID, v.Address, v.Detail, v.Reason)
		payload, err := json.Marshal(issuer.Revocation{Subject: e.UserID, SessionID: e.ID, Reason: issuer.ReasonAdministrator, Until: e.AccessExpiresAt.Time})
		if err != nil {
			return nil, fmt.Errorf("sqlstore: encode a revocation for the outbox: %w", err)
		}
		entries = append(entries, topicRevocation, e.UserID, string(payload), at(now), at(now.Add(bulkDelay)))
	}
	if _, err := t.exec(ctx, newStatement(`
		INSERT INTO events (at, type, user_id, session_id, actor, actor_id, address, detail, reason) VALUES `+rowsOf(9, len(ended))), events...); err != nil {
		return nil, err
	}
	var posted []outboxRow
	if err := t.list(ctx, &posted, newStatement(`
		INSERT INTO outbox (topic, user_id, payload, queued_at, due_at) VALUES `+rowsOf(5, len(ended))+`
		RETURNING id, payload, queued_at, attempts`), entries...); err != nil {
		return nil, err
	}
	revocations := make([]issuer.Revocation, len(posted))
	for i := range posted {
		if revocations[i], err = posted[i].revocation(); err != nil {
			return nil, err
		}
	}
	return revocations, nil
}

// bulkDelay is how long the outbox leaves a revocation to the replica that ended the session.
const bulkDelay = 5 * time.Second

// rowsOf returns the placeholders of several rows for VALUES.
func rowsOf(columns, n int) string {
	row := "(" + strings.Join(slices.Repeat([]string{"?"}, columns), ", ") + ")"
	return strings.Join(slices.Repeat([]string{row}, n), ", ")
}

// listIn is like list for a statement with lists among its parameters.
func (t *tx) listIn(ctx context.Context, dst any, text string, args ...any) error {
	text, args, err := sqlx.In(text, args...)
	if err != nil {
		return err
	}
	return t.list(ctx, dst, newStatement(text), args...)
}
