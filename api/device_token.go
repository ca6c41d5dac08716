package api

import (
	"net/http"
	"strings"

	"github.com/sessiond/sessiond/identity"
)

const deviceHeader = "X-Device-Token"

// A browser keeps the device token in a cookie. The prefix __Host- keeps other hosts of the domain,
// and pages without TLS, from setting the cookie.
const (
	deviceCookie       = "sessiond_device"
	secureDeviceCookie = "__Host-" + deviceCookie
)

// deviceToken returns the device token that the client received at an earlier login, if it sends
// one. Only the routes that sign in use it.
func deviceToken(r *http.Request) string {
	if token := r.Header.Get(deviceHeader); token != "" {
		return token
	}
	for _, name := range []string{secureDeviceCookie, deviceCookie} {
		if c, err := r.Cookie(name); err == nil {
			return c.Value
		}
	}
	return ""
}

// setDeviceToken adds a device token to the reply, because the client just proved to be the user's.
func (a *API) setDeviceToken(q *request, user identity.User) {
	token := a.Users.DeviceToken(deviceToken(q.Request), user)
	if token == "" {
		return
	}
	c := http.Cookie{ //nolint:gosec // G124: without TLS a browser would keep no Secure one
		Name: deviceCookie, Value: token, Path: "/", MaxAge: int(identity.DeviceTTL.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
	if scheme, _, _ := strings.Cut(a.PublicURL, ":"); strings.EqualFold(scheme, "https") {
		c.Name, c.Secure = secureDeviceCookie, true
	}
	q.replyHeader.Set(deviceHeader, token)
	q.replyHeader.Set("Set-Cookie", c.String())
}
