package sqlstore

import (
	"context"
	"strings"
	"time"

	"github.com/sessiond/sessiond/identity/clients"
)

// Clients stores the machine clients in an SQL database. It implements [clients.Store].
type Clients struct{ db *DB }

var _ clients.Store = (*Clients)(nil)

func (c *Clients) wrap(operation string, err error) error {
	return wrap(operation, clients.ErrUnavailable, err)
}

type clientRow struct {
	ID, Scopes                                     string
	SecretHash, PreviousHash                       []byte
	PreviousUntil, CreatedAt, RotatedAt, RevokedAt timestamp
}

func (r *clientRow) client() clients.Client {
	c := clients.Client{
		ID: r.ID, PreviousUntil: r.PreviousUntil.Time, CreatedAt: r.CreatedAt.Time, RotatedAt: r.RotatedAt.Time, RevokedAt: r.RevokedAt.Time,
	}
	for _, scope := range strings.Fields(r.Scopes) {
		c.Scopes = append(c.Scopes, clients.Scope(scope))
	}
	copy(c.SecretHash[:], r.SecretHash)
	copy(c.Previous[:], r.PreviousHash)
	return c
}

func scopesOf(c clients.Client) string {
	names := make([]string, len(c.Scopes))
	for i, scope := range c.Scopes {
		names[i] = string(scope)
	}
	return strings.Join(names, " ")
}

var (
	listClients = newStatement(`
		SELECT id, scopes, secret_hash, previous_hash, previous_until, created_at, rotated_at, revoked_at FROM clients ORDER BY id`)
	insertClient = newStatement(`
		INSERT INTO clients (id, scopes, secret_hash, created_at) VALUES (:id, :scopes, :secret_hash, :created_at)`)
	rotateClient = newStatement(`
		UPDATE clients SET previous_hash = secret_hash, previous_until = ?, secret_hash = ?, rotated_at = ?
		WHERE id = ? AND revoked_at IS NULL`)
	revokeClient = newStatement(`UPDATE clients SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL`)
)

// Clients implements [clients.Store].
func (c *Clients) Clients(ctx context.Context) ([]clients.Client, error) {
	var rows []clientRow
	if err := c.db.list(ctx, &rows, listClients); err != nil {
		return nil, c.wrap("list the clients", err)
	}
	list := make([]clients.Client, len(rows))
	for i := range rows {
		list[i] = rows[i].client()
	}
	return list, nil
}

// AddClient implements [clients.Store].
func (c *Clients) AddClient(ctx context.Context, added clients.Client) error {
	err := c.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		row := clientRow{ID: added.ID, Scopes: scopesOf(added), SecretHash: added.SecretHash[:], CreatedAt: at(added.CreatedAt)}
		if _, err := tx.exec(ctx, insertClient, row); err != nil {
			return err
		}
		return tx.record(ctx, event{At: row.CreatedAt, Type: eventClientAdded, Detail: added.ID, After: row.Scopes})
	})
	if _, ok := c.db.dialect.unique(err); ok {
		return clients.ErrTaken
	}
	return c.wrap("add client "+added.ID, err)
}

// RotateClient implements [clients.Store].
func (c *Clients) RotateClient(ctx context.Context, id string, secret clients.Hash, previousUntil, now time.Time) error {
	return c.change(ctx, id, eventClientRotated, now, rotateClient, at(previousUntil), secret[:], at(now), id)
}

// RevokeClient implements [clients.Store].
func (c *Clients) RevokeClient(ctx context.Context, id string, now time.Time) error {
	return c.change(ctx, id, eventClientRevoked, now, revokeClient, at(now), id)
}

func (c *Clients) change(ctx context.Context, id, eventType string, now time.Time, s *statement, args ...any) error {
	return c.wrap("change client "+id, c.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		n, err := tx.exec(ctx, s, args...)
		switch {
		case err != nil:
			return err
		case n == 0:
			return clients.ErrNotFound
		}
		return tx.record(ctx, event{At: at(now), Type: eventType, Detail: id})
	}))
}
