// Package breach asks a server whether a password was in a data breach. The server has the range API of
// Have I Been Pwned and does not learn the password.
package breach
