package api

import (
	"net/http"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session/issuer"
)

// client returns the client's IP address, User-Agent and device name, which a new session stores.
func client(r *http.Request) issuer.Client {
	userAgent := cleanUserAgent(r.UserAgent())
	return issuer.Client{IP: clientIP(r), UserAgent: userAgent, Device: deviceName(userAgent)}
}

// origin describes a request's client, for the rate limits and for the login history.
func origin(q *request) identity.Origin {
	c := client(q.Request)
	return identity.Origin{
		IP: c.IP, UserAgent: c.UserAgent, Device: c.Device, DeviceToken: deviceToken(q.Request),
		Session: q.claims.SessionID, Quota: &q.quota,
	}
}
