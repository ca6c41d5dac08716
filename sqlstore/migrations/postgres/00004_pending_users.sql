-- +goose Up

-- Every hour, lapsed registrations are looked up among all users.

CREATE INDEX users_pending ON users (created_at) WHERE status = 'pending';
