// Package clients knows the machine clients, which introspect tokens and administer accounts. A client is a
// program with an id and a secret (RFC 6749 section 2.3.1), and acts for no user.
package clients
