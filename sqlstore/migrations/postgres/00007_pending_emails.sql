-- +goose Up

-- An email address counts once it is confirmed. A new address waits in pending_email. claim_key is the
-- folded address that a link can confirm: pending_email, or the email of a pending registration. Several
-- users may claim one address, while email_key stays unique. A mailed token is good only for the address
-- that it was mailed to.

ALTER TABLE users ADD COLUMN pending_email TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN pending_email_at TIMESTAMPTZ;
ALTER TABLE users ADD COLUMN claim_key TEXT COLLATE "C";
CREATE INDEX users_claim ON users (claim_key) WHERE claim_key IS NOT NULL;
UPDATE users SET claim_key = email_key, email_key = NULL WHERE status = 'pending';

ALTER TABLE mail_tokens ADD COLUMN email_key TEXT COLLATE "C";
CREATE INDEX mail_tokens_email ON mail_tokens (email_key);
-- These get other names, because the release before would confirm an address without its email_key.
UPDATE mail_tokens SET purpose = 'confirm' WHERE purpose = 'verify';
UPDATE outbox SET payload = replace(payload, '"kind":"verify_email"', '"kind":"confirm_email"') WHERE topic = 'mail';

-- The hash of a token that undoes a change of email, mailed to the address that the account had. A used one stays
-- for a while, because a notice of a later change may still wait to be mailed.
CREATE TABLE email_changes (
    hash       BYTEA PRIMARY KEY,
    user_id    TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    email      TEXT NOT NULL,
    changed_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    used_at    TIMESTAMPTZ
);
CREATE INDEX email_changes_user ON email_changes (user_id);
CREATE INDEX email_changes_expiry ON email_changes (expires_at);
