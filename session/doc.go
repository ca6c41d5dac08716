// Package session verifies the access tokens of sessiond: signed JWTs (RFC 9068) that stop working
// as soon as their session is revoked. It is for services that receive such tokens. Package
// session/issuer issues and revokes them, and is not needed to verify them.
//
// A check has up to three steps:
//
//  1. Verify the signature, the claims and the times with the keys of a [Keyring], without I/O.
//  2. Ask a [Store] about the token, in one round trip. Package redisstore implements it.
//  3. Ask a [Fallback] if the store does not know the token's session. The fallback of
//     [NewIntrospection] asks sessiond over HTTP (RFC 7662). sessiond then also writes the session to
//     the store, so that the next check needs only the first two steps.
//
// The store is a cache and may lose anything at any moment. A loss never signs a user out. If
// neither the store nor the fallback can decide, the check fails with [ErrUnavailable], which
// [Verifier.Middleware] answers with a 503.
//
// These terms are used:
//
//   - session: the server's record of one sign-in, named by the claim sid.
//   - token: an access token of a session, named by jti.
//   - subject: the opaque id of a user, named by sub. It is never given to another user.
//   - revoked: no longer accepted. The store's record of one revoked token is what other systems
//     call a blacklist entry.
//   - generation: a number that each subject and each session has. If a session's generation is
//     lower than its subject's in the store, the store does not know the session. So one write,
//     which raises the subject's generation, makes the fallback decide about all its sessions.
//   - epoch: a span of time in which one server of the store counts; see [Epochs].
package session
