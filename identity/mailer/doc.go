// Package mailer sends the mail of package identity: over SMTP, or into a file
// where a developer reads it.
package mailer
