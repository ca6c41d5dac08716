-- +goose Up

-- A password reset raises the generation, which ends the user's device tokens.

ALTER TABLE users ADD COLUMN device_generation INTEGER NOT NULL DEFAULT 0;
