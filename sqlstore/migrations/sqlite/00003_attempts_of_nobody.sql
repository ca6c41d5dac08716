-- +goose Up

-- A failed login is recorded even if no account has the name. SQLite can drop NOT NULL only by copying
-- the table.

CREATE TABLE login_attempts_new (
    id         TEXT PRIMARY KEY,
    user_id    TEXT REFERENCES users (id),
    ip         TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    device     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;

INSERT INTO login_attempts_new SELECT id, user_id, ip, user_agent, device, reason, created_at FROM login_attempts;

DROP TABLE login_attempts;

ALTER TABLE login_attempts_new RENAME TO login_attempts;

CREATE INDEX login_attempts_history ON login_attempts (user_id, id);
