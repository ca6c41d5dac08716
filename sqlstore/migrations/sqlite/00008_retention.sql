-- +goose Up

-- How far each chore of the retention has come: all rows up to this id are done.

CREATE TABLE retention (
    chore TEXT PRIMARY KEY,
    done  TEXT NOT NULL
) STRICT;

INSERT INTO retention (chore, done) VALUES
    ('forget sessions', ''), ('forget failed logins', ''), ('forget events', ''),
    ('cut sessions', ''), ('cut failed logins', '');

CREATE INDEX session_endings_at ON session_endings (at);

-- A deletion now erases the clients in all rows of the account. Do the same for the accounts that were deleted before.

UPDATE sessions SET ip = '', user_agent = '', device = '' WHERE user_id IN (SELECT id FROM users WHERE deleted_at IS NOT NULL);
UPDATE login_attempts SET ip = '', user_agent = '', device = '' WHERE user_id IN (SELECT id FROM users WHERE deleted_at IS NOT NULL);
