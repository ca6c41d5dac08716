-- Grants the role sessiond what serve, import, doctor, admin and clients need, and nothing more. Run it after each
-- "sessiond migrate", as the owner of the tables:
--
--   psql "$OWNER_URL" -v ON_ERROR_STOP=1 -f deploy/postgres/grants.sql
--
-- A lock on a row (FOR SHARE, FOR UPDATE) needs UPDATE. Audit events cannot be changed, except for their
-- place in the chain. The oldest ones can be removed (HISTORY_RETENTION).

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM sessiond;

GRANT SELECT                         ON goose_db_version TO sessiond;
GRANT SELECT, INSERT                 ON secrets          TO sessiond;
GRANT SELECT, INSERT, DELETE         ON events           TO sessiond;
GRANT UPDATE (number, previous)      ON events           TO sessiond;
GRANT SELECT, UPDATE                 ON event_chain      TO sessiond;
GRANT SELECT, INSERT, UPDATE, DELETE ON bulk_revocations TO sessiond;
GRANT SELECT, INSERT, UPDATE         ON clients          TO sessiond;
GRANT SELECT, INSERT, DELETE         ON user_roles       TO sessiond;
GRANT SELECT, INSERT, DELETE         ON revoked_tokens   TO sessiond;
GRANT SELECT, INSERT, DELETE         ON session_endings  TO sessiond;
GRANT SELECT, UPDATE                 ON retention        TO sessiond;
GRANT SELECT, INSERT, UPDATE, DELETE ON email_changes    TO sessiond;
GRANT SELECT, INSERT, UPDATE, DELETE ON users            TO sessiond;
GRANT SELECT, INSERT, UPDATE, DELETE ON sessions         TO sessiond;
GRANT SELECT, INSERT, UPDATE, DELETE ON login_attempts   TO sessiond;
GRANT SELECT, INSERT, UPDATE, DELETE ON mail_tokens      TO sessiond;
GRANT SELECT, INSERT, UPDATE, DELETE ON outbox           TO sessiond;
GRANT SELECT, INSERT, UPDATE, DELETE ON redis_epochs     TO sessiond;
