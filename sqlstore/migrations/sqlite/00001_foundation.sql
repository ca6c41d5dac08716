-- +goose Up

-- Times are text in UTC, in a form that sorts like the time. AUTOINCREMENT never reuses a number, so a
-- late "done" cannot delete another row of the outbox.

CREATE TABLE users (
    id                  TEXT PRIMARY KEY,
    username            TEXT NOT NULL,
    username_key        TEXT CONSTRAINT users_username_unique UNIQUE,
    email               TEXT NOT NULL,
    email_key           TEXT CONSTRAINT users_email_unique UNIQUE,
    first_name          TEXT NOT NULL,
    last_name           TEXT NOT NULL,
    password_hash       TEXT NOT NULL,
    password_version    INTEGER NOT NULL,
    token_gen           INTEGER NOT NULL DEFAULT 1,
    token_gen_raised_at TEXT,
    status              TEXT NOT NULL,
    email_verified_at   TEXT,
    created_at          TEXT NOT NULL,
    updated_at          TEXT NOT NULL,
    deleted_at          TEXT
) STRICT;

CREATE TABLE sessions (
    id                 TEXT PRIMARY KEY,
    user_id            TEXT NOT NULL REFERENCES users (id),
    token_id           TEXT NOT NULL,
    ip                 TEXT NOT NULL,
    user_agent         TEXT NOT NULL,
    device             TEXT NOT NULL,
    amr                TEXT NOT NULL,
    generation         INTEGER NOT NULL,
    created_at         TEXT NOT NULL,
    last_seen_at       TEXT NOT NULL,
    auth_time          TEXT NOT NULL,
    access_expires_at  TEXT NOT NULL,
    expires_at         TEXT NOT NULL,
    max_expires_at     TEXT NOT NULL,
    ended_at           TEXT,
    end_reason         TEXT NOT NULL DEFAULT '',
    ended_by           TEXT NOT NULL DEFAULT '',
    refresh_family     BLOB NOT NULL CONSTRAINT sessions_refresh_family_unique UNIQUE,
    refresh_current    BLOB NOT NULL,
    refresh_previous   BLOB,
    refresh_sealed     BLOB,
    refresh_rotated_at TEXT
) STRICT;

CREATE INDEX sessions_history ON sessions (user_id, id);
CREATE INDEX sessions_open ON sessions (user_id, id) WHERE ended_at IS NULL;
CREATE INDEX sessions_access ON sessions (user_id, access_expires_at);

CREATE TABLE revoked_tokens (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    jti        TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    PRIMARY KEY (session_id, jti)
) STRICT;

CREATE TABLE login_attempts (
    id         TEXT PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES users (id),
    ip         TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    device     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;

CREATE INDEX login_attempts_history ON login_attempts (user_id, id);

CREATE TABLE mail_tokens (
    user_id    TEXT NOT NULL REFERENCES users (id),
    purpose    TEXT NOT NULL,
    hash       BLOB NOT NULL CONSTRAINT mail_tokens_hash_unique UNIQUE,
    issued_at  TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    PRIMARY KEY (user_id, purpose)
) STRICT;

CREATE TABLE outbox (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    topic     TEXT NOT NULL,
    user_id   TEXT NOT NULL,
    payload   TEXT NOT NULL,
    queued_at TEXT NOT NULL,
    due_at    TEXT NOT NULL,
    attempts  INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX outbox_due ON outbox (topic, due_at, id);

CREATE TABLE events (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    at         TEXT NOT NULL,
    type       TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    session_id TEXT NOT NULL DEFAULT '',
    actor      TEXT NOT NULL DEFAULT '',
    detail     TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX events_by_user ON events (user_id, seq);
