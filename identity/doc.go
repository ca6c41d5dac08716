// Package identity knows people: their names, passwords, devices and mail. It does not know what a
// session is. A changed password or a deleted account ends sessions, though: the [Store] does both in
// one transaction and returns the number of the recorded revocation, which the caller then enforces.
//
// It uses package hashing for password hashes, package limit for rate limits and package mail to
// deliver mail.
package identity
