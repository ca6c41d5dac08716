package api

import "net/http"

// oauthError is the body of an error on the OAuth endpoints (RFC 6749 section 5.2).
type oauthError struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

func (a *API) writeOAuthError(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err, nil)
	code := "server_error"
	switch {
	case p.Code == errGrantType.code, p.Code == errClient.code:
		code = p.Code
	case p.Code == "invalid_token" || p.Code == "invalid_credentials":
		p.Status, code = http.StatusBadRequest, "invalid_grant"
	case p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests:
		code = "temporarily_unavailable"
	case p.Status < http.StatusInternalServerError:
		code = "invalid_request"
	}
	a.setErrorHeaders(w.Header(), &p, err)
	logEntryOf(r).err = err
	writeJSON(w, r, p.Status, "application/json; charset=utf-8", oauthError{code, p.Detail})
}
