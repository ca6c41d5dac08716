package api

import (
	_ "embed" // the page
	"net/http"
)

// confirmationPage is the page of the link in a confirmation mail, unless VERIFY_URL names another.
//
//go:embed email_confirmation.html
var confirmationPage []byte

var confirmationPolicy = "default-src 'none'; connect-src 'self'; script-src " + inlineHash(confirmationPage, "script") +
	"; style-src " + inlineHash(confirmationPage, "style") + pagePolicy

func getVerifyPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Security-Policy", confirmationPolicy)
	writeDocument(w, "text/html; charset=utf-8", confirmationPage)
}

// mailedTokenInput is the body of a request that needs nothing but a mailed token.
type mailedTokenInput struct {
	Token string `json:"token" required:"true"`
}

// verifyEmail confirms the address that a token was mailed to.
func (a *API) verifyEmail(q *request, in mailedTokenInput) (reply, error) {
	return noContent, a.Users.VerifyEmail(q.Context(), in.Token)
}
