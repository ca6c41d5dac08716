-- +goose Up

-- A failed login is recorded even if no account has the name. Otherwise the duration of the response
-- would show whether the account exists.

ALTER TABLE login_attempts ALTER COLUMN user_id DROP NOT NULL;
