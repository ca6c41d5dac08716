// Package issuer opens sessions, issues their tokens, and revokes them. Package session verifies
// the tokens.
//
// A login opens a session. The client receives access tokens (signed JWTs, RFC 9068) and a refresh
// token (opaque, RFC 6749 section 6). The session is recorded in two places:
//
//   - The [Ledger] (SQL) is the durable truth and keeps every session as history.
//   - The [Store] (Redis) is a cache for checks. It holds a session as long as one of its access
//     tokens can be presented, and it may be wiped at any moment.
//
// If the store does not know a session, the check reads the session from the ledger and backfills
// it into the store ([LedgerFallback]). Logins and refreshes do not write to the store.
//
// A revocation is committed in the ledger together with an outbox row, and is then applied to the
// store. [Manager.Revoke] returns nil only after both steps. If the store does not answer,
// [Manager.Run] of any replica enforces the revocation later from the outbox.
package issuer
