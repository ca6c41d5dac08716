package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/url"
)

// Clients are the OAuth clients that may introspect tokens. The key is a client's id, and the value
// is the SHA-256 of the client's secret. A fast hash is enough, because the secrets are random.
type Clients map[string][sha256.Size]byte

// errClient means that a request did not carry the id and secret of one of the [Clients].
var errClient = &errRequest{http.StatusUnauthorized, "invalid_client", "Authenticate by HTTP Basic as a client of CLIENTS_FILE."}

// asClient returns a handler that calls h only if the request has the id and secret of a client.
func (a *API) asClient(h handler) handler {
	return func(q *request) (reply, error) {
		if err := a.Clients.authenticate(q.Request); err != nil {
			return reply{}, err
		}
		return h(q)
	}
}

// authenticate checks the id and secret of an OAuth client in HTTP Basic. RFC 6749 section 2.3.1
// requires that the client form-encodes both.
func (c Clients) authenticate(r *http.Request) error {
	user, password, ok := r.BasicAuth()
	id, errID := url.QueryUnescape(user)
	secret, errSecret := url.QueryUnescape(password)
	if !ok || errID != nil || errSecret != nil || len(r.Header.Values("Authorization")) != 1 {
		return errClient
	}
	want, known := c[id]
	got := sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(want[:], got[:]) != 1 || !known {
		return errClient
	}
	return nil
}
