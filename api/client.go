package api

import (
	"net/http"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session/issuer"
)

// client returns what a new session stores about the client that opened it.
func client(r *http.Request) issuer.Client {
	userAgent := cleanUserAgent(r.UserAgent())
	return issuer.Client{IP: clientIP(r), UserAgent: userAgent, Device: deviceName(userAgent)}
}

// origin returns what the rate limits and the login history need to know about the client.
func origin(q *request) identity.Origin {
	c := client(q.Request)
	return identity.Origin{
		IP: c.IP, UserAgent: c.UserAgent, Device: c.Device, DeviceToken: deviceToken(q.Request),
		Session: q.claims.SessionID, Quota: &q.quota,
	}
}
