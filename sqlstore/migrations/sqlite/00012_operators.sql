-- +goose Up

-- Who did it, from where and why, and the values before and after the act. previous is the hash of the
-- event before this one in the chain, and number its place there. They are NULL until the event is sealed.
-- Events from before this migration have the number 0 and are not in the chain: sealing millions of them would
-- keep new ones waiting.

ALTER TABLE events ADD COLUMN actor_id TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN address TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN before TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN after TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN reason TEXT NOT NULL DEFAULT '';
ALTER TABLE events ADD COLUMN number INTEGER;
UPDATE events SET number = 0;
ALTER TABLE events ADD COLUMN previous BLOB;
CREATE UNIQUE INDEX IF NOT EXISTS events_chain ON events (number) WHERE number > 0;
CREATE INDEX IF NOT EXISTS events_by_type ON events (type, number);
CREATE INDEX IF NOT EXISTS events_unsealed ON events (seq) WHERE number IS NULL;

-- The end of the chain of events. Events up to the number forgotten may be gone, because they were too old.

CREATE TABLE event_chain (
    number    INTEGER NOT NULL,
    hash      BLOB NOT NULL,
    forgotten INTEGER NOT NULL
) STRICT;
INSERT INTO event_chain (number, hash, forgotten) VALUES (0, x'', 0);

-- The roles of users.roles, to find the users of a role.

CREATE TABLE user_roles (
    role    TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id),
    PRIMARY KEY (role, user_id)
) STRICT;
CREATE INDEX user_roles_user ON user_roles (user_id);
CREATE INDEX IF NOT EXISTS users_by_status ON users (status, id);

-- The sessions of all users, newest first.

CREATE INDEX IF NOT EXISTS sessions_open_ids ON sessions (id) WHERE ended_at IS NULL;

-- Revocations by filter. done_to is the id of the oldest session that was looked at.

CREATE TABLE bulk_revocations (
    id           TEXT PRIMARY KEY,
    filter       TEXT NOT NULL,
    actor        TEXT NOT NULL,
    actor_id     TEXT NOT NULL,
    address      TEXT NOT NULL,
    reason       TEXT NOT NULL,
    state        TEXT NOT NULL,
    done_to      TEXT NOT NULL,
    matched      INTEGER NOT NULL DEFAULT 0,
    revoked      INTEGER NOT NULL DEFAULT 0,
    batch_at     TEXT, -- the time of the latest batch
    started_at   TEXT NOT NULL,
    finished_at  TEXT,
    leased_by    TEXT,
    leased_until TEXT
) STRICT;
CREATE INDEX bulk_revocations_open ON bulk_revocations (id) WHERE finished_at IS NULL;

-- Machine clients. previous_hash is the hash of the secret before the last rotation, good until previous_until.

CREATE TABLE clients (
    id             TEXT CONSTRAINT clients_id_unique PRIMARY KEY,
    scopes         TEXT NOT NULL,
    secret_hash    BLOB NOT NULL,
    previous_hash  BLOB,
    previous_until TEXT,
    created_at     TEXT NOT NULL,
    rotated_at     TEXT,
    revoked_at     TEXT
) STRICT;
