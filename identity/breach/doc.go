// Package breach asks a service whether a password is known from a breach,
// without telling it which one: the range check of Have I Been Pwned, or of
// whoever speaks like it.
package breach
