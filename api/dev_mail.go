package api

// getDevMail returns the mail that the command 'sessiond dev' keeps instead of sending.
func (a *API) getDevMail(*request) (reply, error) { return ok(a.Mailbox()), nil }
