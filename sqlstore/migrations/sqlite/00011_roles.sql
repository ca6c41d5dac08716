-- +goose Up

-- Roles are names, sorted and separated by commas. Claims is a JSON object, or empty.

ALTER TABLE users ADD COLUMN roles TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN claims TEXT NOT NULL DEFAULT '';
