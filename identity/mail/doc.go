// Package mail delivers the mail of package identity. A [Postman] takes mails from the [Outbox], a table
// of the database, and writes the text. A [Mailer] sends it by SMTP or, in development, keeps it in a file.
package mail
