// Package breach checks whether a password was in a data breach, at a service with the range API of Have
// I Been Pwned. The service does not learn the password.
package breach
