-- +goose Up

-- When all sessions of a user ended at once, except one that moved to the generation "below". It is one
-- row, however many sessions ended: those below the generation that had neither ended nor expired.

CREATE TABLE session_endings (
    owner_id TEXT NOT NULL REFERENCES users (id),
    below    BIGINT NOT NULL,
    at       TEXT NOT NULL,
    reason   TEXT NOT NULL,
    actor    TEXT NOT NULL,
    PRIMARY KEY (owner_id, below)
);

-- Only sessions of the user's generation are open.
CREATE INDEX sessions_current ON sessions (user_id, generation, id) WHERE ended_at IS NULL;
DROP INDEX sessions_open;
