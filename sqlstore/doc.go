// Package sqlstore stores users and sessions in an SQL database: in Postgres in production, in
// SQLite for "sessiond dev". Every statement is written once for both databases. Their differences
// are in dialect.go.
//
// [Sessions] implements [issuer.Ledger] and [Users] implements [identity.Store]. Both use one [DB],
// so one transaction can change a password and revoke the sessions that the old password opened.
//
// # Tables
//
//	users           one row per account. Usernames, and the addresses of active accounts, are unique by
//	                their case-folded forms. Any number of accounts may claim an address that they have
//	                not confirmed. A deleted account keeps a row without names and without personal data.
//	sessions        one row per login, kept as the history. A session that expired has no ended_at.
//	revoked_tokens  access tokens that were revoked one by one, until they expire.
//	login_attempts  failed logins; user_id is NULL if no account has the name.
//	mail_tokens     the hash of the newest mailed token, one per user and purpose, until it is used.
//	email_changes   the address that an account had, and the hash of the mailed token that brings it back,
//	                for 72 hours.
//	outbox          mails that are still to be sent, and revocations that Redis does not know yet.
//	events          the audit trail: append-only, numbered, without personal data.
//	retention       how far each chore that deletes or cuts old rows has come (retention.go).
//	secrets         secrets that all replicas share; the first replica creates them.
//
// # Decisions under locks
//
// Most rules are in packages issuer and identity. This package decides the rules that are only
// correct while rows are locked:
//
//   - whether a checked password still counts: the user is active and the password is unchanged;
//   - the session limit: which sessions a login ends, or whether the login is refused;
//   - token theft: the issuer decides, while the session is locked, whether a reused refresh token
//     is stolen. This package then ends the session and mails the user once. It also refuses to
//     refresh a session whose generation is below the user's generation;
//   - whether a mailed token is unused and its user still has the address that it was mailed to, who
//     gets an address that several users claim, and whether a username or address is free;
//   - the audit trail: a change and its event are one transaction (events.go).
//
// A transaction locks the user's row first and session rows after it. A transaction that opens or
// renews a session locks the user FOR SHARE, because it relies on the password and the generation.
// A transaction that changes either locks the user FOR UPDATE. SQLite needs no row locks, because
// it allows only one writer at a time.
//
// # PgBouncer
//
// In transaction mode, PgBouncer may run each transaction of a connection on another server. With
// pgbouncer=true in the URL, every statement is in a transaction that sets its own time limits, and no
// statement is prepared. [DB.CheckPooler] finds a pooler that needs the parameter.
package sqlstore
