// Package mail delivers the mail of package identity. A [Postman] takes mail from an outbox, writes
// the letters and hands them to a [Mailer]: a mail server over SMTP or, in development, a file.
package mail
