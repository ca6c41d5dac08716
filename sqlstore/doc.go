// Package sqlstore keeps users and sessions in SQL: Postgres in production,
// SQLite for the embedded default. Every statement is written once and serves
// both; what differs between them stands in dialect.go.
//
// [Sessions] is a [issuer.Ledger], [Users] is an [identity.Store]; both stand on
// one [DB], so that changing a password and ending the sessions that it opened
// is one transaction.
//
// The tables:
//
//	users           one row per account. The keys are the folded names; they are
//	                NULL once the account is deleted, which frees the names. The
//	                row itself stays, without personal data.
//	sessions        one row per login, kept for ever: the history. Expiry is not
//	                written: a row that ran out has no ended_at.
//	revoked_tokens  access tokens that were revoked by themselves, until they expire.
//	login_attempts  logins that failed, for 90 days; user_id is NULL when the name
//	                was nobody's.
//	mail_tokens     the hash of the secret that was mailed last, one per user and
//	                purpose, until it is used.
//	outbox          what is committed and has yet to be done: mails to send,
//	                revocations that the store has to learn.
//	events          the audit trail: append-only, numbered, without personal data.
//	                Of failed logins under a name that was nobody's, 90 days.
//	secrets         what replicas share and nobody else knows; made by the first.
//
// Locks are taken on the user's row first and on session rows after it. Whoever
// reads a credential or the generation to open or renew a session shares the
// user's row; whoever changes either takes it for update. SQLite has one writer
// at a time, which is stricter than both.
//
// Behind PgBouncer in transaction mode: version 1.21 or later with
// max_prepared_statements above 0, and ignore_startup_parameters for the time
// limits that [Open] sends. Migrations need a direct connection.
package sqlstore
