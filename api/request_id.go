package api

import "github.com/sessiond/sessiond/session/issuer"

const requestIDHeader = "X-Request-Id"

// requestID returns the value of the header X-Request-Id, which a proxy may set. If it is absent
// or is not a valid id, requestID returns a new id.
func requestID(sent string) string {
	if issuer.ValidID(sent) {
		return sent
	}
	return issuer.NewID()
}
