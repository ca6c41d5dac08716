package api

import (
	"net/http"
	"net/url"
)

// verify is the check that a gateway makes before it passes a request on: 200
// says who is asking, in headers for the request's new owner, and has no body.
//
// Each header is set every time, lest a gateway that copies them leaves in place what a
// client has sent by that name. The username is percent-encoded: a header
// loses the blanks at its ends, and " ada" must not turn into "ada" on the way.
func (a *API) verify(q *request) (reply, error) {
	c := &q.claims
	return reply{status: http.StatusOK, header: http.Header{
		"X-Auth-Subject":  {c.Subject},
		"X-Auth-Username": {url.PathEscape(c.Username)},
		"X-Auth-Session":  {c.SessionID},
		"X-Auth-Token-Id": {c.TokenID},
	}}, nil
}
