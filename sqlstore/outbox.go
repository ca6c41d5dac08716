package sqlstore

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/sessiond/sessiond/identity/audit"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/session/issuer"
)

// The topics of the outbox: unsent mails, and revocations that Redis may not know yet. Replicas of
// the release before know only topicEarlier. New revocations have another topic, because those
// replicas delete a revocation without asking which Redis counts.
const (
	topicMail       = "mail"
	topicRevocation = "revocation in epoch"
	topicEarlier    = "revocation"
)

type outboxRow struct {
	ID       int64
	Payload  string
	QueuedAt timestamp
	Attempts int
}

var (
	insertOutbox = newStatement(`INSERT INTO outbox (topic, user_id, payload, queued_at, due_at) VALUES (?, ?, ?, ?, ?) RETURNING id`)
	// claimOutbox materializes the inner query. Otherwise Postgres could run it twice, and the
	// second run would skip the claimed rows, find other rows and exceed the limit.
	claimOutbox = newStatement(`
		WITH due AS MATERIALIZED (
			SELECT id FROM outbox WHERE topic = ? AND due_at <= ? ORDER BY due_at, id LIMIT ? FOR UPDATE SKIP LOCKED
		)
		UPDATE outbox SET due_at = ?, attempts = attempts + 1 WHERE id IN (SELECT id FROM due)
		RETURNING id, payload, queued_at, attempts`)
	readOutbox   = newStatement(`SELECT id, payload, queued_at, attempts FROM outbox WHERE id = ? AND topic <> ?`)
	deleteOutbox = newStatement(`DELETE FROM outbox WHERE id = ? AND topic = ?`)
	retryOutbox  = newStatement(`UPDATE outbox SET due_at = ? WHERE id = ? AND topic = ?`)
)

// post adds an entry to the outbox. The entry is due at once.
func (t *tx) post(ctx context.Context, topic, user string, payload any, now time.Time) (id int64, err error) {
	text, err := json.Marshal(payload)
	if err != nil {
		return 0, fmt.Errorf("sqlstore: encode a mail or revocation for the outbox: %w", err)
	}
	err = t.get(ctx, &id, errMalformed, insertOutbox, topic, user, string(text), at(now), at(now))
	return id, err
}

// claim returns the outbox entries that are due, oldest first. Until the time lease has passed, no
// other caller gets the same entries.
func (db *DB) claim(ctx context.Context, topic string, now time.Time, lease time.Duration, limit int) ([]outboxRow, error) {
	var rows []outboxRow
	err := db.list(ctx, &rows, claimOutbox, topic, at(now), max(limit, 0), at(now.Add(lease)))
	slices.SortFunc(rows, func(a, b outboxRow) int { return cmp.Compare(a.ID, b.ID) })
	return rows, err
}

// postRevocation adds a revocation to the outbox, because Redis does not know it yet.
func (t *tx) postRevocation(ctx context.Context, r issuer.Revocation, now time.Time) (issuer.Revocation, error) {
	var err error
	r.RecordedAt = micros(now)
	r.ID, err = t.post(ctx, topicRevocation, r.Subject, r, now)
	return r, err
}

func (row *outboxRow) revocation() (issuer.Revocation, error) {
	r := issuer.Revocation{ID: row.ID, RecordedAt: row.QueuedAt.Time}
	if err := json.Unmarshal([]byte(row.Payload), &r); err != nil {
		return issuer.Revocation{}, fmt.Errorf("sqlstore: read revocation %d: %w", row.ID, err)
	}
	return r, nil
}

// Revocation implements [issuer.Ledger].
func (s *Sessions) Revocation(ctx context.Context, id int64) (issuer.Revocation, error) {
	var row outboxRow
	if err := s.db.get(ctx, &row, issuer.ErrNotFound, readOutbox, id, topicMail); err != nil {
		return issuer.Revocation{}, s.wrap(fmt.Sprintf("read revocation %d", id), err)
	}
	return row.revocation()
}

// DueRevocations implements [issuer.Ledger].
func (s *Sessions) DueRevocations(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]issuer.Revocation, error) {
	var due []issuer.Revocation
	for _, topic := range []string{topicEarlier, topicRevocation} {
		rows, err := s.db.claim(ctx, topic, now, lease, limit-len(due))
		if err != nil {
			return nil, s.wrap("claim due revocations", err)
		}
		for i := range rows {
			r, err := rows[i].revocation()
			if err != nil {
				return nil, err
			}
			due = append(due, r)
		}
	}
	return due, nil
}

// RevocationDone implements [issuer.Ledger].
func (s *Sessions) RevocationDone(ctx context.Context, ids ...int64) error {
	err := s.db.execFor(ctx, ids, `DELETE FROM outbox WHERE id IN (?) AND topic <> ?`, topicMail)
	return s.wrap("delete revocations from the outbox", err)
}

// execFor is like exec for a statement whose first parameter is a list, which may be empty.
func (db *DB) execFor(ctx context.Context, list []int64, text string, args ...any) error {
	if len(list) == 0 {
		return nil
	}
	text, args, err := sqlx.In(text, append([]any{list}, args...)...)
	if err != nil {
		return err
	}
	return db.exec(ctx, newStatement(text), args...)
}

// mailPayload is the JSON form of a mail in the outbox. Its JSON names must not change.
type mailPayload struct {
	Kind   mail.Kind `json:"kind"`
	UserID string    `json:"user"`
	To     string    `json:"to"`
}

// laterKinds are the names of today for the kinds that replicas of the release before queue. Their mails had
// no link that undoes a change of address.
var laterKinds = map[mail.Kind]mail.Kind{"verify_email": mail.KindConfirmEmail, "email_changed": mail.KindEmailChange}

// notify queues a mail, unless it has no recipient.
func (t *tx) notify(ctx context.Context, notice mail.Envelope, now time.Time) error {
	if notice.To == "" {
		return nil
	}
	return t.enqueue(ctx, notice, now)
}

func (t *tx) enqueue(ctx context.Context, notice mail.Envelope, now time.Time) error {
	_, err := t.post(ctx, topicMail, notice.UserID,
		mailPayload{Kind: notice.Kind, UserID: notice.UserID, To: notice.To}, now)
	return err
}

// Enqueue implements [identity.Store].
func (u *Users) Enqueue(ctx context.Context, notice mail.Envelope, now time.Time) error {
	return u.wrap("queue a mail", u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		if _, ok := audit.Of(ctx); ok {
			if err := tx.record(ctx, event{At: at(now), Type: eventMailRequested, UserID: notice.UserID, Detail: string(notice.Kind)}); err != nil {
				return err
			}
		}
		return tx.enqueue(ctx, notice, now)
	}))
}

// DueMail implements [mail.Outbox].
func (u *Users) DueMail(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]mail.Envelope, error) {
	rows, err := u.db.claim(ctx, topicMail, now, lease, limit)
	if err != nil {
		return nil, u.wrap("claim due mail", err)
	}
	return envelopes(rows)
}

func envelopes(rows []outboxRow) ([]mail.Envelope, error) {
	mails := make([]mail.Envelope, len(rows))
	for i, row := range rows {
		var m mailPayload
		if err := json.Unmarshal([]byte(row.Payload), &m); err != nil {
			return nil, fmt.Errorf("sqlstore: read mail %d: %w", row.ID, err)
		}
		mails[i] = mail.Envelope{
			ID: row.ID, Kind: cmp.Or(laterKinds[m.Kind], m.Kind), UserID: m.UserID, To: m.To,
			QueuedAt: row.QueuedAt.Time, Attempts: row.Attempts,
		}
	}
	return mails, nil
}

// MailDone implements [mail.Outbox].
func (u *Users) MailDone(ctx context.Context, id int64) error {
	err := u.db.exec(ctx, deleteOutbox, id, topicMail)
	return u.wrap(fmt.Sprintf("delete mail %d from the outbox", id), err)
}

// MailRetry implements [mail.Outbox].
func (u *Users) MailRetry(ctx context.Context, id int64, due time.Time) error {
	err := u.db.exec(ctx, retryOutbox, at(due), id, topicMail)
	return u.wrap(fmt.Sprintf("postpone mail %d", id), err)
}
