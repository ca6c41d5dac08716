package api

import (
	_ "embed" // for the go:embed of undoPage
	"net/http"
)

// undoPage is the page to which the link in the mail about a change of email address leads.
//
//go:embed email_undo.html
var undoPage []byte

var undoPolicy = scriptedPolicy(undoPage)

func getUndoPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Security-Policy", undoPolicy)
	writeDocument(w, "text/html; charset=utf-8", undoPage)
}

// undoEmailChange gives an account the email address back that received the token.
func (a *API) undoEmailChange(q *request, in mailedTokenInput) (reply, error) {
	revocation, err := a.Users.UndoEmailChange(q.Context(), in.Token)
	if err != nil {
		return reply{}, err
	}
	return noContent, a.Sessions.Enforce(q.Context(), revocation)
}
