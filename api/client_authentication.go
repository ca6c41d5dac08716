package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"net/url"
)

// Clients are the OAuth clients that may introspect tokens: the SHA-256 of each client's secret, by
// the client's id. A fast hash protects the secrets well enough, because they are random.
type Clients map[string][sha256.Size]byte

// errClient means that the caller did not authenticate as a client.
var errClient = &errRequest{http.StatusUnauthorized, "invalid_client", "Authenticate by HTTP Basic as a client of CLIENTS_FILE."}

// asClient checks the client's credentials before it calls h.
func (a *API) asClient(h handler) handler {
	return func(q *request) (reply, error) {
		if err := a.Clients.authenticate(q.Request); err != nil {
			return reply{}, err
		}
		return h(q)
	}
}

// authenticate checks HTTP Basic credentials, which RFC 6749 section 2.3.1 wants form-encoded.
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
