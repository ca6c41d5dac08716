-- +goose Up

-- A login under a name that nobody has is recorded as one that failed on an
-- account, so that the time of the answer does not tell them apart.

ALTER TABLE login_attempts ALTER COLUMN user_id DROP NOT NULL;
