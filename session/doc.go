// Package session decides whether a token is still good.
//
// A login opens a session; a session is handed out as access tokens (signed
// JWTs, RFC 9068) and a refresh token (opaque, RFC 6749 section 6). Sessions
// live in a [Ledger] (SQL: the truth, kept as history) and, for as long as one
// of their access tokens can be presented, in a [Store] (Redis: a cache that
// may be wiped at any moment). A check verifies the signature and then asks the
// store once; what the store does not know is read from the ledger and put
// back. When a session is revoked, no later check accepts it.
//
// The words, one for each idea:
//
//   - session: the server's record of one sign-in, named by sid.
//   - login: the event that opened it.
//   - token: an access token, named by jti.
//   - subject: the user, as an opaque and never reassigned id, named by sub.
//   - revoked: no longer accepted. The store's record of a token revoked by
//     itself is what other systems call a blacklist entry.
//   - generation: a number per subject. A session of a lower generation than
//     its subject's is revoked; raising it ends all sessions in one write.
//
// This package imports nothing of the service around it, so that another Go
// program can put a [Verifier] in front of its own routes: [FetchKeys] keeps the
// service's public keys, [NewIntrospection] asks it for what the store does not
// know, and [Verifier.Middleware] goes before any router.
package session
