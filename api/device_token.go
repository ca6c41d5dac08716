package api

import (
	"net/http"
	"strings"

	"github.com/sessiond/sessiond/identity"
)

const deviceHeader = "X-Device-Token"

// A browser keeps the device token in a cookie. Because of the prefix __Host-, browsers accept the
// cookie only from this host and only over TLS. [API.crossOriginProtection] keeps other sites from
// replacing it.
const (
	deviceCookie       = "sessiond_device"
	secureDeviceCookie = "__Host-" + deviceCookie
)

// deviceToken returns the device token that the client received at an earlier login, or an empty
// string. A device token does not sign anybody in. The rate limits recognise the device by it.
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

// setDeviceToken adds a device token to the reply. Call it only after the client has proved by a
// password or a mailed token that it acts for the user.
func (a *API) setDeviceToken(q *request, user identity.User) {
	token := a.Users.DeviceToken(deviceToken(q.Request), user)
	if token == "" {
		return
	}
	c := http.Cookie{ //nolint:gosec // gosec rule G124 demands Secure, but without TLS a browser would refuse a Secure cookie
		Name: deviceCookie, Value: token, Path: "/", MaxAge: int(identity.DeviceTTL.Seconds()),
		HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}
	if scheme, _, _ := strings.Cut(a.PublicURL, ":"); strings.EqualFold(scheme, "https") {
		c.Name, c.Secure = secureDeviceCookie, true
	}
	q.replyHeader.Set(deviceHeader, token)
	q.replyHeader.Set("Set-Cookie", c.String())
}
