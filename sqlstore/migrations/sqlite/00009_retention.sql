-- +goose Up

-- How far each chore of the retention has come: all rows up to this id are done.

CREATE TABLE retention (
    chore TEXT PRIMARY KEY,
    done  TEXT NOT NULL
) STRICT;

INSERT INTO retention (chore, done) VALUES
    ('forget sessions', ''), ('forget failed logins', ''), ('forget events', ''),
    ('cut sessions', ''), ('cut failed logins', '');
