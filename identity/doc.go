// Package identity manages users: their names, passwords, devices and mail. It knows nothing about
// sessions, except that a new password or a deleted account must revoke them. The [Store] changes the user
// and revokes the sessions in one transaction, and returns the id of the revocation. The caller then makes
// sure that the revocation reaches Redis, where sessions are checked.
//
// Package hashing hashes passwords, package limit limits how often clients may try, package mail delivers
// mail.
package identity
