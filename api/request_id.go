package api

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
)

const requestIDHeader = "X-Request-Id"

// requestID returns the id that a proxy gave the request if it is short and plain. Otherwise it
// makes one.
func requestID(r *http.Request) string {
	if ids := r.Header[requestIDHeader]; len(ids) > 0 && isID(ids[0]) {
		return ids[0]
	}
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// isID reports whether s can be an id of this service. Nothing else is passed on to a store.
func isID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
