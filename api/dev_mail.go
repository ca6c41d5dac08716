package api

// getDevMail lists the mail that the command dev keeps instead of sending it.
func (a *API) getDevMail(*request) (reply, error) { return ok(a.Mailbox()), nil }
