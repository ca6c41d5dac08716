package sqlstore

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3"

	"github.com/sessiond/sessiond/identity"
)

// emailKeys is the migration that writes the keys of addresses anew whose domain is not plain ASCII. Earlier
// releases folded the domain like a name, so that one domain had several keys, and two domains one.
func (db *DB) emailKeys() *goose.Migration {
	return goose.NewGoMigration(9, &goose.GoFunc{RunTx: db.rekeyEmails}, nil)
}

// rekeyEmails leaves an address as it is if another user has its new key. Only its user can change that.
func (db *DB) rekeyEmails(ctx context.Context, t *sql.Tx) error {
	spell := func(text string) string { return sqlx.Rebind(sqlx.BindType(db.dialect.driver), text) }
	rows, err := t.QueryContext(ctx, `SELECT id, email, email_key FROM users
		WHERE email_key IS NOT NULL AND (email_key LIKE '%xn--%' OR octet_length(email) <> length(email)) ORDER BY created_at, id`)
	if err != nil {
		return fmt.Errorf("read addresses: %w", err)
	}
	defer rows.Close() //nolint:errcheck // the rows are only read
	var users []keyedUser
	for rows.Next() {
		var u keyedUser
		var key string
		if err := rows.Scan(&u.ID, &u.Email, &key); err != nil {
			return err
		}
		if u.EmailKey = new(identity.FoldEmail(u.Email)); *u.EmailKey != key {
			users = append(users, u)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	for _, u := range users {
		_, err := t.ExecContext(ctx, spell(`UPDATE users SET email_key = ? WHERE id = ? AND NOT EXISTS (SELECT 1 FROM users WHERE email_key = ?)`), *u.EmailKey, u.ID, *u.EmailKey)
		if err != nil {
			return fmt.Errorf("change the key of an address: %w", err)
		}
	}
	return nil
}
