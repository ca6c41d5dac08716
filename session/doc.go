// Package session verifies the access tokens of sessiond: signed JWTs (RFC 9068) that stop working
// as soon as their session is revoked. It is for services that receive such tokens. Package
// session/issuer issues and revokes them, and is not needed to verify them.
//
// A check has up to three steps:
//
//  1. Verify the signature, the claims and the times with the keys of a [Keyring], without I/O.
//  2. Ask a [Store] about the token, in one round trip. Package redisstore implements it.
//  3. Ask a [Fallback] if the store does not know. [NewIntrospection] returns one that asks sessiond
//     over HTTP (RFC 7662), which also tells the store, so that the next check is a short one.
//
// The store is a cache and may lose anything at any moment. A loss never signs a user out. If
// nobody can decide, the check fails with [ErrUnavailable], which [Verifier.Middleware] answers
// with a 503.
//
// The words:
//
//   - session: the server's record of one sign-in, named by the claim sid.
//   - token: an access token of a session, named by jti.
//   - subject: the user, as an opaque id that is never given to anybody else, named by sub.
//   - revoked: no longer accepted. The store's record of one revoked token is what other systems
//     call a blacklist entry.
//   - generation: a number per subject. Raising it makes all entries of the subject out of date in
//     one write. The fallback then decides about each session.
package session
