-- +goose Up

-- A login under a name that nobody has is recorded as one that failed on an
-- account. SQLite takes NOT NULL from a column only by making the table anew.

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
