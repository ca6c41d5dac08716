// Package sqlstore keeps users and sessions in SQL: in Postgres in production, in SQLite for the
// embedded default. Every statement is written once and serves both. Their differences are in
// dialect.go.
//
// [Sessions] is the [issuer.Ledger] and [Users] the [identity.Store]. Both use one [DB], so a
// change of password and the revocation of the sessions that it opened are one transaction.
//
// # Tables
//
//	users           one row per account. The unique keys are the folded names. They are NULL once
//	                the account is deleted, which frees the names; the row stays without personal data.
//	sessions        one row per login, kept as the history. Expiry is not recorded: a session
//	                that ran out has no ended_at.
//	revoked_tokens  access tokens that were revoked by themselves, until they expire.
//	login_attempts  failed logins, for 90 days; user_id is NULL if no account has the name.
//	mail_tokens     the hash of the newest mailed secret, one per user and purpose, until it is used.
//	outbox          committed work that is still to be done: mails, and revocations for the store.
//	events          the audit trail: append-only, numbered, without personal data. Failed logins
//	                without an account stay for 90 days.
//	secrets         secrets that all replicas share; the first replica makes them.
//
// # Decisions under locks
//
// Most rules are in packages issuer and identity. A few are only right while rows
// are locked, so this package decides them:
//
//   - whether a proof of identity still holds: the user is active and the password version unchanged;
//   - the session limit: which sessions a login displaces, or that it is refused;
//   - theft: the issuer decides under our lock whether a reused refresh token is stolen. This package
//     then ends the session and mails the user once. It also refuses to refresh a session whose
//     generation is below the user's;
//   - whether a mailed token is unused and a name is free;
//   - what is audited: a change and its event are one transaction (events.go).
//
// A transaction locks the user's row first and session rows after it. To open or renew a session,
// it locks the user FOR SHARE, because it relies on the credential and the generation. To change
// either, it locks FOR UPDATE. SQLite has one writer at a time, which is stricter than both.
//
// # PgBouncer
//
// Transaction mode works with version 1.21 or later, max_prepared_statements above 0, and
// ignore_startup_parameters for the time limits that [Open] sends. Migrations need a direct
// connection.
package sqlstore
