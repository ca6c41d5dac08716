package api

// requestPasswordReset gives the same answer for every email address. Otherwise anybody could learn
// which email addresses have an account.
func (a *API) requestPasswordReset(q *request, in emailInput) (reply, error) {
	return accepted("If the address has an account, a mail is on its way."), a.requestReset(q, in.Email, a.Users.RequestReset)
}

type emailInput struct {
	Email string `json:"email" required:"true"`
}

func (a *API) checkPasswordReset(q *request, in mailedTokenInput) (reply, error) {
	_, err := a.Users.CheckReset(q.Context(), in.Token)
	return noContent, err
}

type completePasswordResetInput struct {
	Token    string `json:"token" required:"true"`
	Password string `json:"password" required:"true"`
}

func (a *API) completePasswordReset(q *request, in completePasswordResetInput) (reply, error) {
	return noContent, a.resetPassword(q, "", in.Token, in.Password)
}
