// Package limit counts what may be done only so often: guesses at a password,
// registrations, mails to one address. It holds the rules, apart from where
// their counts are kept, the contract of who keeps them, and a [Local] keeper
// for when there is no other. It imports none of ours.
package limit
