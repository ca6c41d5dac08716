package httpsuite

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The test compares the responses of the classic (pre-/v1) routes for known and unknown usernames
// and email addresses. The file account_timing_test.go compares the response times.
func TestHideAccounts_ClassicRoutesDoNotRevealAccounts(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		name := newName()
		email := name + "@example.com"
		register := func(username, email string) response {
			return s.call(t, "POST", "/registerUser", registration(username, email, password)).
				is(t, 200, shape{"auth": false, "message": aText})
		}
		first := register(name, email)
		if first.header.Get("X-Auth-Token") != "" {
			t.Error("the response to a registration contains an access token")
		}
		login := func(username, password string) response {
			return s.call(t, "POST", "/loginUser", credentials(username, password))
		}
		pending := login(name, password)
		token := s.confirmToken(t, email)
		s.call(t, "POST", "/v1/users/verify", jsonBody(shape{"token": token})).empty(t, 204)
		signedIn := login(name, password).is(t, 200, signedInShape).text(t, "token")

		taken := register(name+"2", strings.ToUpper(email))
		sameResponse(t, "a taken and a free email", taken, first)
		s.awaitMail(t, strings.ToLower(email), "already have")
		s.call(t, "POST", "/registerUser", registration(name, "x"+email, password)).
			problem(t, true, 403, "username_taken")

		wrong := login(name, "wrong passphrase")
		wrong.problem(t, true, 401, "invalid_credentials")
		sameResponse(t, "an unknown username and a wrong password", login("nobody-"+name, password), wrong)
		sameResponse(t, "a user with an unconfirmed address and a wrong password", pending, wrong)

		forgot := s.call(t, "POST", "/forgotPassword", jsonBody(shape{"email": email})).is(t, 200, messageShape)
		unknown := s.call(t, "POST", "/forgotPassword", jsonBody(shape{"email": "nobody-" + email}))
		sameResponse(t, "an unknown and a known address", unknown, forgot)

		reset := func(username string) response {
			return s.call(t, "PUT", "/updatePasswordViaEmail", jsonBody(shape{"username": username, "password": goodPassword, "resetPasswordToken": "nonsense"}))
		}
		reset(name).problem(t, true, 403, "invalid_reset_token")
		sameResponse(t, "an unknown and a known username", reset("nobody-"+name), reset(name))

		updated := s.call(t, "PUT", "/updateUser", bearer(signedIn), jsonBody(shape{"username": name, "first_name": "Ada"})).want(t, 200)
		if updated.text(t, "auth") != "true" {
			t.Errorf("PUT /updateUser returned %s, want auth true", updated.body)
		}
	}, "HIDE_ACCOUNTS=true")
}

// sameResponse fails the test if two responses differ in anything but the headers Date and
// X-Request-Id. The parameter `what` describes the two responses in the error message.
func sameResponse(t *testing.T, what string, a, b response) {
	t.Helper()
	if a.status != b.status || string(a.body) != string(b.body) {
		t.Errorf("%s can be told apart: %d %s and %d %s", what, a.status, a.body, b.status, b.body)
	}
	ha, hb := a.header.Clone(), b.header.Clone()
	for _, name := range []string{"Date", "X-Request-Id"} {
		ha.Del(name)
		hb.Del(name)
	}
	if !maps.EqualFunc(ha, hb, slices.Equal) {
		t.Errorf("%s can be told apart by their headers: %v and %v", what, ha, hb)
	}
	if got := a.header.Get("Content-Length"); got != strconv.Itoa(len(a.body)) {
		t.Errorf("Content-Length is %s, but the body has %d bytes", got, len(a.body))
	}
}
