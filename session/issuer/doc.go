// Package issuer opens sessions, issues their tokens, and revokes them. Package session verifies
// the tokens.
//
// A login opens a session. The session is handed out as access tokens (signed JWTs, RFC 9068) and a
// refresh token (opaque, RFC 6749 section 6). It is recorded in two places:
//
//   - The [Ledger] (SQL) is the durable truth and keeps every session as history.
//   - The [Store] (Redis) is a cache for checks. It holds a session as long as one of its access
//     tokens can be presented, and it may be wiped at any moment.
//
// A check of a session that the store does not know reads the ledger and backfills the store
// ([LedgerFallback]). Nothing else writes sessions to the store, neither a login nor a refresh.
//
// A revocation is committed in the ledger together with an outbox row and then applied to the
// store. [Manager.Revoke] returns nil only after both. If the store fails in between, [Manager.Run]
// of any replica enforces the revocation later from the outbox.
package issuer
