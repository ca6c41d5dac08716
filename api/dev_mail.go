package api

func (a *API) getDevMail(*request) (reply, error) { return ok(a.Mailbox()), nil }
