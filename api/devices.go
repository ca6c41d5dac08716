package api

import (
	"net/http"
	"strings"

	"github.com/sessiond/sessiond/identity"
)

const deviceHeader = "X-Device-Token"

// Where a browser keeps the device token. One that has the name with the prefix lets
// neither another host of the domain nor a page without TLS set it.
const (
	deviceCookie       = "sessiond_device"
	secureDeviceCookie = "__Host-" + deviceCookie
)

// deviceToken is what the client was given when it signed in before, if it says
// so. It proves nothing to any route but those that sign in.
func deviceToken(q *request) string {
	if token := q.Header.Get(deviceHeader); token != "" {
		return token
	}
	for _, name := range []string{secureDeviceCookie, deviceCookie} {
		if c, err := q.Cookie(name); err == nil {
			return c.Value
		}
	}
	return ""
}

// known is the header of an answer to a device that just proved to be the
// user's, and will be known as such.
func (a *API) known(q *request, user identity.User) http.Header {
	token := a.Users.DeviceToken(deviceToken(q), user)
	if token == "" {
		return http.Header{}
	}
	c := http.Cookie{ //nolint:gosec // G124: without TLS a browser would keep no Secure one
		Name: deviceCookie, Value: token, Path: "/", MaxAge: int(identity.DeviceTTL.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
	if scheme, _, _ := strings.Cut(a.PublicURL, ":"); strings.EqualFold(scheme, "https") {
		c.Name, c.Secure = secureDeviceCookie, true
	}
	return http.Header{deviceHeader: {token}, "Set-Cookie": {c.String()}}
}
