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

var confirmationPolicy = "default-src 'none'; connect-src 'self'; script-src " + inlineHash(confirmationPage, "script") +
	"; style-src " + inlineHash(confirmationPage, "style") + pagePolicy

func getVerifyPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Security-Policy", confirmationPolicy)
	writeDocument(w, "text/html; charset=utf-8", confirmationPage)
}

// mailedTokenInput is the body of a request whose only field is a token from a mail.
type mailedTokenInput struct {
	Token string `json:"token" required:"true"`
}

// verifyEmail confirms the email address that received the token.
func (a *API) verifyEmail(q *request, in mailedTokenInput) (reply, error) {
	return noContent, a.Users.VerifyEmail(q.Context(), in.Token)
}
