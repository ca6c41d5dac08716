-- +goose Up

-- Registrations that lapsed are looked for every hour, among all users.

CREATE INDEX users_pending ON users (created_at) WHERE status = 'pending';
