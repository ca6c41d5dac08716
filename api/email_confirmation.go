package api

import (
	_ "embed" // for the go:embed of confirmationPage
	"net/http"
)

// confirmationPage is the page to which the link in a confirmation mail leads. The setting
// VERIFY_URL can name another page.
//
//go:embed email_confirmation.html
var confirmationPage []byte

var confirmationPolicy = scriptedPolicy(confirmationPage)

// scriptedPolicy returns the Content-Security-Policy of a page that calls this service.
func scriptedPolicy(page []byte) string {
	return "default-src 'none'; connect-src 'self'; script-src " + inlineHash(page, "script") +
		"; style-src " + inlineHash(page, "style") + pagePolicy
}

func getVerifyPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Security-Policy", confirmationPolicy)
	writeDocument(w, "text/html; charset=utf-8", confirmationPage)
}

// mailedTokenInput is the body of a request whose only field is a token from a mail.
type mailedTokenInput struct {
	Token string `json:"token" required:"true"`
}

// verifyEmailInput has the password of the account besides the token, because the owner of an email
// address may also have got the links of strangers.
type verifyEmailInput struct {
	mailedTokenInput
	Password *string `json:"password"`
}

// verifyEmail confirms the email address that received the token.
func (a *API) verifyEmail(q *request, in verifyEmailInput) (reply, error) {
	return noContent, a.Users.ConfirmEmail(q.Context(), in.Token, in.Password, origin(q))
}

// resendConfirmation mails the link that confirms the email address of the signed-in user again.
func (a *API) resendConfirmation(q *request) (reply, error) {
	return accepted("If an address waits for its confirmation, a mail is on its way."),
		a.Users.ResendConfirmation(q.Context(), q.claims.Subject, origin(q))
}
