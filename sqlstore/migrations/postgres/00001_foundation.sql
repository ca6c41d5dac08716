-- +goose Up

-- Ids and keys are compared bytewise. Paging by id then gives the same order in every locale and on
-- every database.

CREATE TABLE users (
    id                  TEXT COLLATE "C" PRIMARY KEY,
    username            TEXT NOT NULL,
    username_key        TEXT COLLATE "C" CONSTRAINT users_username_unique UNIQUE,
    email               TEXT NOT NULL,
    email_key           TEXT COLLATE "C" CONSTRAINT users_email_unique UNIQUE,
    first_name          TEXT NOT NULL,
    last_name           TEXT NOT NULL,
    password_hash       TEXT NOT NULL,
    password_version    BIGINT NOT NULL,
    token_gen           BIGINT NOT NULL DEFAULT 1,
    token_gen_raised_at TIMESTAMPTZ,
    status              TEXT NOT NULL,
    email_verified_at   TIMESTAMPTZ,
    created_at          TIMESTAMPTZ NOT NULL,
    updated_at          TIMESTAMPTZ NOT NULL,
    deleted_at          TIMESTAMPTZ
);

CREATE TABLE sessions (
    id                 TEXT COLLATE "C" PRIMARY KEY,
    user_id            TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    token_id           TEXT COLLATE "C" NOT NULL,
    ip                 TEXT NOT NULL,
    user_agent         TEXT NOT NULL,
    device             TEXT NOT NULL,
    amr                TEXT NOT NULL,
    generation         BIGINT NOT NULL,
    created_at         TIMESTAMPTZ NOT NULL,
    last_seen_at       TIMESTAMPTZ NOT NULL,
    auth_time          TIMESTAMPTZ NOT NULL,
    access_expires_at  TIMESTAMPTZ NOT NULL,
    expires_at         TIMESTAMPTZ NOT NULL,
    max_expires_at     TIMESTAMPTZ NOT NULL,
    ended_at           TIMESTAMPTZ,
    end_reason         TEXT NOT NULL DEFAULT '',
    ended_by           TEXT NOT NULL DEFAULT '',
    refresh_family     BYTEA NOT NULL CONSTRAINT sessions_refresh_family_unique UNIQUE,
    refresh_current    BYTEA NOT NULL,
    refresh_previous   BYTEA,
    refresh_sealed     BYTEA,
    refresh_rotated_at TIMESTAMPTZ
);

CREATE INDEX sessions_history ON sessions (user_id, id);
CREATE INDEX sessions_open ON sessions (user_id, id) WHERE ended_at IS NULL;
CREATE INDEX sessions_access ON sessions (user_id, access_expires_at);

CREATE TABLE revoked_tokens (
    session_id TEXT COLLATE "C" NOT NULL REFERENCES sessions (id),
    jti        TEXT COLLATE "C" NOT NULL,
    user_id    TEXT COLLATE "C" NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (session_id, jti)
);

CREATE TABLE login_attempts (
    id         TEXT COLLATE "C" PRIMARY KEY,
    user_id    TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    ip         TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    device     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);

CREATE INDEX login_attempts_history ON login_attempts (user_id, id);

CREATE TABLE mail_tokens (
    user_id    TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    purpose    TEXT COLLATE "C" NOT NULL,
    hash       BYTEA NOT NULL CONSTRAINT mail_tokens_hash_unique UNIQUE,
    issued_at  TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (user_id, purpose)
);

CREATE TABLE outbox (
    id        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic     TEXT COLLATE "C" NOT NULL,
    user_id   TEXT COLLATE "C" NOT NULL,
    payload   TEXT NOT NULL,
    queued_at TIMESTAMPTZ NOT NULL,
    due_at    TIMESTAMPTZ NOT NULL,
    attempts  BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX outbox_due ON outbox (topic, due_at, id);

CREATE TABLE events (
    seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         TIMESTAMPTZ NOT NULL,
    type       TEXT COLLATE "C" NOT NULL,
    user_id    TEXT COLLATE "C" NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL DEFAULT '',
    actor      TEXT NOT NULL DEFAULT '',
    detail     TEXT NOT NULL DEFAULT ''
);

CREATE INDEX events_by_user ON events (user_id, seq);
