package httpsuite

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/session/issuer"
)

// scene creates users and tokens for one test case of the contract with clients. A test case
// contains placeholders such as {me.token}. The scene creates the user or the token behind a
// placeholder when the placeholder is first used.
type scene struct {
	t *testing.T
	s *service
	// All test cases share the users in the fields `other` and `third`, and must not change them.
	other, third *person
	// reset returns a password reset token that was mailed to the user in the field `other`. No test
	// case may consume this token.
	reset  func() string
	me     person            // a user for this test case only
	values map[string]string // placeholder → the value that replaces it
}

// get returns the value of a placeholder, given without braces, such as me.token.
func (c *scene) get(name string) string {
	c.t.Helper()
	if v, ok := c.values[name]; ok {
		return v
	}
	if who, _, _ := strings.Cut(name, "."); who == "me" && c.me.username == "" {
		c.me = c.s.register(c.t)
		c.values["me"], c.values["me.email"] = c.me.username, c.me.email
		c.values["me.token"], c.values["me.refresh"] = c.me.token, c.me.refresh
		return c.get(name)
	}
	var v string
	switch name {
	case "me.id":
		v = c.s.currentID(c.t, c.get("me.token"))
	case "me.sub":
		v = fmt.Sprint(claimsOf(c.t, c.get("me.token"))["sub"])
	case "me.jti":
		v = fmt.Sprint(claimsOf(c.t, c.get("me.token"))["jti"])
	case "me.second.token":
		v = c.s.login(c.t, c.me, header("User-Agent", "curl/8.5.0"))
	case "me.second":
		v = c.s.currentID(c.t, c.get("me.second.token"))
	case "me.second.jti":
		v = fmt.Sprint(claimsOf(c.t, c.get("me.second.token"))["jti"])
	case "me.reset":
		v = c.s.resetToken(c.t, c.me)
	case "me.EMAIL":
		v = strings.ToUpper(c.get("me.email"))
	case "other":
		v = c.other.username
	case "OTHER":
		v = strings.ToUpper(c.other.username)
	case "other.email":
		v = c.other.email
	case "other.EMAIL":
		v = strings.ToUpper(c.other.email)
	case "other.token":
		v = c.other.token
	case "third":
		v = c.third.username
	case "third.token":
		v = c.third.token
	case "other.id":
		v = c.s.currentID(c.t, c.other.token)
	case "other.reset":
		v = c.reset()
	case "nobody":
		v = "n" + strings.ToLower(issuer.NewID()[:10])
	default:
		c.t.Fatalf("unknown placeholder {%s}", name)
	}
	c.values[name] = v
	return v
}

var placeholder = regexp.MustCompile(`\{[A-Za-z.]+\}`)

// fill returns a copy of v, which is a string, an object or a list, with all placeholders replaced.
func (c *scene) fill(v any) any {
	switch v := v.(type) {
	case string:
		return placeholder.ReplaceAllStringFunc(v, func(p string) string { return c.get(p[1 : len(p)-1]) })
	case shape:
		out := shape{}
		for name, value := range v {
			out[name] = c.fill(value)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = c.fill(v[i])
		}
		return out
	default:
		return v
	}
}

// currentID returns the id of the session to which an access token belongs.
func (s *service) currentID(t testing.TB, token string) string {
	t.Helper()
	return s.call(t, "GET", "/v1/sessions/current", bearer(token)).want(t, 200).text(t, "id")
}

// contractCase is one request to a route for clients older than /v1, and the response that these
// clients expect.
type contractCase struct {
	route  string // method, path and query string
	when   string // the special part of the request, such as "a wrong password"
	as     string // access token of the request
	json   shape  // request body as JSON
	form   shape  // request body as a form
	status int
	body   shape          // expected response body, if the request succeeds
	code   string         // expected code in the error response
	bad    string         // names of the fields that the error response must list
	then   func(c *scene) // further checks after the response, or nil
}

const (
	goodPassword = "a newer and longer passphrase"
	longName     = "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn" // 65 characters, one more than a username may have
)

var (
	signedInShape = shape{"auth": true, "token": aJWT, "refresh_token": aText, "expires_in": 3600, "message": aText}
	messageShape  = shape{"message": aText}
	doneShape     = shape{"auth": true, "message": aText}
)

// loginShape is the JSON of a session in responses of the classic (pre-/v1) routes.
func loginShape(id, jti, device string, revoked, current bool) shape {
	s := shape{
		"id": id, "user_id": "{me.sub}", "token_id": jti, "ip_address": "127.0.0.1", "device": device, "logged_in_at": aTime,
		"logged_out_at": nil, "logged_out": revoked, "token_deleted": revoked, "current": current,
	}
	if revoked {
		s["logged_out_at"] = aTime
	}
	return s
}

// wantAlive fails the test unless the service accepts (want is true) or refuses (want is false) the
// access token behind the placeholder {name}.
func (c *scene) wantAlive(name string, want bool) {
	c.t.Helper()
	if got := c.s.alive(c.t, c.get(name)); got != want {
		c.t.Errorf("the access token {%s} is accepted: %v, want %v", name, got, want)
	}
}

// wantPassword sends a login of the user behind the placeholder {name}. It fails the test unless
// the response has this status.
func (c *scene) wantPassword(name, password string, status int) {
	c.t.Helper()
	c.s.call(c.t, "POST", "/loginUser", credentials(c.get(name), password)).want(c.t, status)
}

var contract = []contractCase{
	{
		route: "POST /registerUser", when: "a body with all fields",
		json:   shape{"username": "{nobody}", "email": "{nobody}@example.com", "password": password, "first_name": "Ada", "last_name": "King"},
		status: 200, body: signedInShape, then: func(c *scene) { c.wantPassword("nobody", password, 200) },
	},
	{
		route: "POST /registerUser", when: "a form body",
		form: shape{"username": "{nobody}", "email": "{nobody}@example.com", "password": password}, status: 200, body: signedInShape,
	},
	{
		route: "POST /registerUser", when: "a taken username",
		json: shape{"username": "{other}", "email": "{nobody}@example.com", "password": password}, status: 403, code: "username_taken",
	},
	{
		route: "POST /registerUser", when: "a taken username in another case",
		json: shape{"username": "{OTHER}", "email": "{nobody}@example.com", "password": password}, status: 403, code: "username_taken",
	},
	{
		route: "POST /registerUser", when: "a taken email",
		json: shape{"username": "{nobody}", "email": "{other.email}", "password": password}, status: 403, code: "email_taken",
	},
	{
		route: "POST /registerUser", when: "a taken email in another case",
		json: shape{"username": "{nobody}", "email": "{other.EMAIL}", "password": password}, status: 403, code: "email_taken",
	},
	{route: "POST /registerUser", when: "an empty body", json: shape{}, status: 400, code: "invalid_request", bad: "username email password"},
	{
		route: "POST /registerUser", when: "a missing email",
		json: shape{"username": "{nobody}", "password": password}, status: 400, code: "invalid_request", bad: "email",
	},
	{
		route: "POST /registerUser", when: "a username of 2 characters",
		json: shape{"username": "ab", "email": "{nobody}@example.com", "password": password}, status: 400, code: "invalid_request", bad: "username",
	},
	{
		route: "POST /registerUser", when: "a username of 65 characters",
		json: shape{"username": longName, "email": "{nobody}@example.com", "password": password}, status: 400, code: "invalid_request", bad: "username",
	},
	{
		route: "POST /registerUser", when: "a username of 64 characters outside ASCII",
		json:   shape{"username": "{nobody}" + strings.Repeat("é", 53), "email": "{nobody}@example.com", "password": password},
		status: 200, body: signedInShape,
	},
	{
		route: "POST /registerUser", when: "a username that contains @",
		json: shape{"username": "{nobody}@x", "email": "{nobody}@example.com", "password": password}, status: 400, code: "invalid_request", bad: "username",
	},
	{
		route: "POST /registerUser", when: "a username with a control character",
		json: shape{"username": "{nobody}\x07", "email": "{nobody}@example.com", "password": password}, status: 400, code: "invalid_request", bad: "username",
	},
	{
		route: "POST /registerUser", when: "a password of 7 bytes",
		json: shape{"username": "{nobody}", "email": "{nobody}@example.com", "password": "kX9#vQ2"}, status: 400, code: "invalid_request", bad: "password",
	},
	{
		route: "POST /registerUser", when: "a password of 1025 bytes",
		json:   shape{"username": "{nobody}", "email": "{nobody}@example.com", "password": strings.Repeat("kX9#v", 205)},
		status: 400, code: "invalid_request", bad: "password",
	},
	{
		route: "POST /registerUser", when: "a password of 1024 bytes",
		json:   shape{"username": "{nobody}", "email": "{nobody}@example.com", "password": strings.Repeat("kX9#", 256)},
		status: 200, body: signedInShape, then: func(c *scene) {
			c.wantPassword("nobody", strings.Repeat("kX9#", 256), 200)
			c.wantPassword("nobody", strings.Repeat("kX9#", 255), 403)
		},
	},
	{
		route: "POST /registerUser", when: "a common password",
		json: shape{"username": "{nobody}", "email": "{nobody}@example.com", "password": "password1"}, status: 400, code: "invalid_request", bad: "password",
	},
	{
		route: "POST /registerUser", when: "names of 201 characters",
		json: shape{
			"username": "{nobody}", "email": "{nobody}@example.com", "password": password,
			"first_name": strings.Repeat("x", 201), "last_name": strings.Repeat("y", 201),
		},
		status: 400, code: "invalid_request", bad: "first_name last_name",
	},

	{route: "POST /loginUser", when: "the correct password", json: shape{"username": "{third}", "password": password}, status: 200, body: signedInShape},
	{route: "POST /loginUser", when: "a form body", form: shape{"username": "{other}", "password": password}, status: 200, body: signedInShape},
	{route: "POST /loginUser", when: "a username in another case", json: shape{"username": "{OTHER}", "password": password}, status: 200, body: signedInShape},
	{route: "POST /loginUser", when: "an unknown username", json: shape{"username": "{nobody}", "password": password}, status: 401, code: "user_not_found"},
	{route: "POST /loginUser", when: "a wrong password", json: shape{"username": "{other}", "password": "wrong passphrase"}, status: 403, code: "invalid_credentials"},
	{route: "POST /loginUser", when: "an empty body", json: shape{}, status: 400, code: "invalid_request", bad: "username password"},
	{route: "POST /loginUser", when: "a missing password", form: shape{"username": "{other}"}, status: 400, code: "invalid_request", bad: "password"},

	{route: "DELETE /logout", as: "{me.token}", status: 200, body: messageShape, then: func(c *scene) { c.wantAlive("me.token", false) }},

	{
		route: "GET /findUser?username={me}", as: "{me.token}", status: 200,
		body: shape{"auth": true, "first_name": "", "last_name": "", "email": "{me.email}", "username": "{me}", "message": aText},
	},
	{
		route: "GET /findUser?username={OTHER}", when: "the user's own username in another case", as: "{other.token}", status: 200,
		body: shape{"auth": true, "first_name": "", "last_name": "", "email": "{other.email}", "username": "{other}", "message": aText},
	},
	{
		route: "GET /findUser?username={other.EMAIL}", when: "the user's own address", as: "{other.token}", status: 200,
		body: shape{"auth": true, "first_name": "", "last_name": "", "email": "{other.email}", "username": "{other}", "message": aText},
	},
	{route: "GET /findUser?username={other.email}", when: "another user's address", as: "{third.token}", status: 403, code: "other_user"},
	{route: "GET /findUser?username={other}", when: "another user's username", as: "{third.token}", status: 403, code: "other_user"},
	{route: "GET /findUser?username={nobody}", when: "an unknown username", as: "{third.token}", status: 403, code: "other_user"},
	{route: "GET /findUser", when: "a missing username", as: "{third.token}", status: 400, code: "invalid_request", bad: "username"},

	{
		route: "PUT /updateUser", when: "a body with all fields", as: "{me.token}",
		json:   shape{"username": "{me}", "first_name": "Ada", "last_name": "Lovelace", "email": "{nobody}@example.com"},
		status: 200, body: doneShape, then: func(c *scene) {
			c.s.call(c.t, "GET", "/findUser?username="+c.get("me"), bearer(c.me.token)).is(c.t, 200, shape{
				"auth": true, "first_name": "Ada", "last_name": "Lovelace", "email": c.get("me.email"), "username": c.get("me"), "message": aText,
			})
			// The new email counts once it is confirmed.
			c.s.confirm(c.t, person{email: c.get("nobody") + "@example.com"})
			c.s.call(c.t, "GET", "/findUser?username="+c.get("me"), bearer(c.me.token)).is(c.t, 200, shape{
				"auth": true, "first_name": "Ada", "last_name": "Lovelace", "email": c.get("nobody") + "@example.com", "username": c.get("me"), "message": aText,
			})
		},
	},
	{
		route: "PUT /updateUser", when: "one field in a form", as: "{me.token}", form: shape{"username": "{me}", "last_name": "King"},
		status: 200, body: doneShape, then: func(c *scene) {
			c.s.call(c.t, "GET", "/findUser?username="+c.get("me"), bearer(c.me.token)).is(c.t, 200, shape{
				"auth": true, "first_name": "", "last_name": "King", "email": c.get("me.email"), "username": c.get("me"), "message": aText,
			})
		},
	},
	{route: "PUT /updateUser", when: "another user's username", as: "{third.token}", json: shape{"username": "{other}", "first_name": "X"}, status: 403, code: "other_user"},
	{route: "PUT /updateUser", when: "an unknown username", as: "{third.token}", json: shape{"username": "{nobody}", "first_name": "X"}, status: 403, code: "other_user"},
	{route: "PUT /updateUser", when: "the email of another user", as: "{third.token}", json: shape{"username": "{third}", "email": "{other.EMAIL}"}, status: 403, code: "email_taken"},
	{route: "PUT /updateUser", when: "a missing username", as: "{third.token}", json: shape{"first_name": "X"}, status: 400, code: "invalid_request", bad: "username"},
	{route: "PUT /updateUser", when: "a malformed email", as: "{third.token}", json: shape{"username": "{third}", "email": "nonsense"}, status: 400, code: "invalid_request", bad: "email"},

	{route: "DELETE /deleteUser?username={me}", as: "{me.token}", status: 200, body: doneShape, then: func(c *scene) {
		c.wantAlive("me.token", false)
		c.wantPassword("me", password, 401)
		again := c.s.call(c.t, "POST", "/registerUser", registration(c.me.username, c.me.email, password)).want(c.t, 200)
		if claimsOf(c.t, again.text(c.t, "token"))["sub"] == c.get("me.sub") {
			c.t.Error("a new account with the username of a deleted account has the same user id (sub)")
		}
		c.wantAlive("me.token", false)
	}},
	{route: "DELETE /deleteUser?username={me}", when: "a user with two sessions", as: "{me.second.token}", status: 200, body: doneShape, then: func(c *scene) {
		c.wantAlive("me.token", false)
		c.s.refreshed(c.t, c.me.refresh, 400)
	}},
	{route: "DELETE /deleteUser?username={other}", when: "another user's username", as: "{third.token}", status: 403, code: "other_user"},
	{route: "DELETE /deleteUser?username={nobody}", when: "an unknown username", as: "{third.token}", status: 403, code: "other_user"},
	{route: "DELETE /deleteUser", when: "a missing username", as: "{third.token}", status: 400, code: "invalid_request", bad: "username"},

	{route: "POST /forgotPassword", json: shape{"email": "{me.email}"}, status: 200, body: messageShape},
	{route: "POST /forgotPassword", when: "a form body with the email in another case", form: shape{"email": "{me.EMAIL}"}, status: 200, body: messageShape},
	{route: "POST /forgotPassword", when: "a missing email", json: shape{}, status: 400, code: "invalid_request", bad: "email"},
	{route: "POST /forgotPassword", when: "a malformed email", json: shape{"email": "nonsense"}, status: 400, code: "invalid_request", bad: "email"},
	{route: "POST /forgotPassword", when: "an unknown email", json: shape{"email": "{nobody}@example.com"}, status: 403, code: "user_not_found"},

	{route: "GET /reset?resetPasswordToken={other.reset}", status: 200, body: shape{"username": "{other}", "message": aText}},
	{route: "GET /reset?resetPasswordToken={other.reset}", when: "a second check of the same token", status: 200, body: shape{"username": "{other}", "message": aText}},
	{route: "GET /reset?resetPasswordToken=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", when: "an unknown token", status: 403, code: "invalid_reset_token"},
	{route: "GET /reset?resetPasswordToken=%00", when: "a malformed token", status: 403, code: "invalid_reset_token"},
	{route: "GET /reset", when: "a missing token", status: 400, code: "invalid_request", bad: "resetPasswordToken"},

	{
		route: "PUT /updatePassword", as: "{me.second.token}", json: shape{"username": "{me}", "password": goodPassword},
		status: 200, body: doneShape, then: func(c *scene) {
			c.wantAlive("me.second.token", true)
			c.wantAlive("me.token", false)
			c.s.refreshed(c.t, c.me.refresh, 400)
			c.wantPassword("me", password, 403)
			c.wantPassword("me", goodPassword, 200)
		},
	},
	{
		route: "PUT /updatePassword", when: "the correct current password in a form", as: "{me.token}",
		form: shape{"username": "{me}", "password": goodPassword, "current_password": password}, status: 200, body: doneShape,
	},
	{
		route: "PUT /updatePassword", when: "a wrong current password", as: "{me.second.token}",
		json:   shape{"username": "{me}", "password": goodPassword, "current_password": "wrong passphrase"},
		status: 403, code: "invalid_credentials", then: func(c *scene) {
			c.wantAlive("me.token", true)
			c.wantPassword("me", password, 200)
		},
	},
	{
		route: "PUT /updatePassword", when: "an empty current password", as: "{me.token}",
		json:   shape{"username": "{me}", "password": goodPassword, "current_password": ""},
		status: 403, code: "invalid_credentials", then: func(c *scene) { c.wantPassword("me", password, 200) },
	},
	{
		route: "PUT /updatePassword", when: "another user's username", as: "{third.token}",
		json: shape{"username": "{other}", "password": goodPassword}, status: 403, code: "other_user",
	},
	{
		route: "PUT /updatePassword", when: "an unknown username", as: "{third.token}",
		json: shape{"username": "{nobody}", "password": goodPassword}, status: 403, code: "other_user",
	},
	{route: "PUT /updatePassword", when: "an empty body", as: "{third.token}", json: shape{}, status: 400, code: "invalid_request", bad: "username password"},
	{route: "PUT /updatePassword", when: "a password of 7 bytes", as: "{third.token}", json: shape{"username": "{third}", "password": "kX9#vQ2"}, status: 400, code: "invalid_request", bad: "password"},

	{
		route: "PUT /updatePasswordViaEmail", json: shape{"username": "{me}", "password": goodPassword, "resetPasswordToken": "{me.reset}"},
		status: 200, body: doneShape, then: func(c *scene) {
			c.wantAlive("me.token", false)
			c.s.refreshed(c.t, c.me.refresh, 400)
			c.wantPassword("me", password, 403)
			c.wantPassword("me", goodPassword, 200)
			// The reset token must not work a second time.
			c.s.call(c.t, "GET", "/reset?resetPasswordToken="+c.get("me.reset")).problem(c.t, true, 403, "invalid_reset_token")
			c.s.call(c.t, "PUT", "/updatePasswordViaEmail", jsonBody(shape{"username": c.get("me"), "password": password, "resetPasswordToken": c.get("me.reset")})).
				problem(c.t, true, 403, "invalid_reset_token")
		},
	},
	{
		route: "PUT /updatePasswordViaEmail", when: "an unknown username",
		json: shape{"username": "{nobody}", "password": goodPassword, "resetPasswordToken": "{other.reset}"}, status: 401, code: "user_not_found",
	},
	{
		route: "PUT /updatePasswordViaEmail", when: "another user's token",
		json: shape{"username": "{third}", "password": goodPassword, "resetPasswordToken": "{other.reset}"}, status: 403, code: "invalid_reset_token",
		then: func(c *scene) { c.wantAlive("third.token", true) },
	},
	{
		route: "PUT /updatePasswordViaEmail", when: "an invalid token",
		form: shape{"username": "{other}", "password": goodPassword, "resetPasswordToken": "nonsense"}, status: 403, code: "invalid_reset_token",
	},
	{route: "PUT /updatePasswordViaEmail", when: "an empty body", json: shape{}, status: 400, code: "invalid_request", bad: "username password resetPasswordToken"},
	{
		route: "PUT /updatePasswordViaEmail", when: "a short password, which does not consume the token",
		json: shape{"username": "{other}", "password": "kX9#vQ2", "resetPasswordToken": "{other.reset}"}, status: 400, code: "invalid_request", bad: "password",
		then: func(c *scene) {
			c.s.call(c.t, "GET", "/reset?resetPasswordToken="+c.get("other.reset")).want(c.t, 200)
		},
	},

	{route: "GET /user/logins/show", when: "a user with two sessions", as: "{me.second.token}", status: 200, body: shape{"user_logins": []any{
		loginShape("{me.second}", "{me.second.jti}", "curl", false, true),
		loginShape("{me.id}", "{me.jti}", "Go-http-client", false, false),
	}}},

	{
		route: "GET /user/logins/delete/{me.second}", as: "{me.token}", status: 200,
		body: shape{"deleted": true, "user_login": loginShape("{me.second}", "{me.second.jti}", "curl", true, false)},
		then: func(c *scene) {
			c.wantAlive("me.second.token", false)
			c.wantAlive("me.token", true)
			// Revoking a session that is already revoked must succeed and change nothing.
			second := c.s.call(c.t, "GET", "/user/logins/delete/"+c.get("me.second"), bearer(c.me.token)).want(c.t, 200)
			third := c.s.call(c.t, "GET", "/user/logins/delete/"+c.get("me.second"), bearer(c.me.token)).want(c.t, 200)
			if string(second.body) != string(third.body) {
				c.t.Errorf("second revocation returned %s, third %s", second.body, third.body)
			}
			c.wantAlive("me.token", true)
		},
	},
	{
		route: "GET /user/logins/delete/{me.id}", when: "the current session", as: "{me.token}", status: 200,
		body: shape{"deleted": true, "user_login": loginShape("{me.id}", "{me.jti}", "Go-http-client", true, true)},
		then: func(c *scene) { c.wantAlive("me.token", false) },
	},
	{
		route: "GET /user/logins/delete/{other.id}", when: "another user's session", as: "{third.token}", status: 400, code: "session_not_found",
		then: func(c *scene) { c.wantAlive("other.token", true) },
	},
	{route: "GET /user/logins/delete/{nobody}", when: "an unknown id", as: "{third.token}", status: 400, code: "session_not_found"},
	{route: "GET /user/logins/delete/%20%00%27", when: "a malformed id", as: "{third.token}", status: 400, code: "session_not_found"},

	{
		route: "GET /user/logins/delete/all/not-current", as: "{me.second.token}", status: 200,
		body: shape{"deleted": true, "user_login": []any{loginShape("{me.id}", "{me.jti}", "Go-http-client", true, false)}},
		then: func(c *scene) {
			c.wantAlive("me.token", false)
			c.wantAlive("me.second.token", true)
			c.s.refreshed(c.t, c.me.refresh, 400)
		},
	},
	{
		route: "GET /user/logins/delete/all/not-current", when: "a user without another session", as: "{me.token}", status: 200,
		body: shape{"deleted": true, "user_login": []any{}}, then: func(c *scene) { c.wantAlive("me.token", true) },
	},

	{route: "GET /user/logins/deletes/all", as: "{me.second.token}", status: 200, body: shape{"deleted": true, "user_login": []any{
		loginShape("{me.second}", "{me.second.jti}", "curl", true, true),
		loginShape("{me.id}", "{me.jti}", "Go-http-client", true, false),
	}}, then: func(c *scene) {
		c.wantAlive("me.token", false)
		c.wantAlive("me.second.token", false)
		c.s.refreshed(c.t, c.me.refresh, 400)
		c.wantPassword("me", password, 200)
	}},
}

func TestClassicRoutes_ReturnResponsesThatExistingClientsExpect_ASVS_V6_2_1_V6_2_2_V6_2_9_V7_6_2_V10_3_3_V14_2_2(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		other, third := s.register(t), s.register(t)
		s.confirm(t, other)
		var mailed string
		reset := func() string {
			if mailed == "" {
				mailed = s.resetToken(t, other)
			}
			return mailed
		}
		prefixes := []string{"", "/api/v1"}
		if s.prefix != "" && !isLong() { // one prefix is enough for 'sessiond serve', which runs the same code as 'sessiond dev'
			prefixes = prefixes[:1]
		}
		for _, prefix := range prefixes {
			for _, r := range contract {
				method, path, _ := strings.Cut(r.route, " ")
				t.Run(method+" "+prefix+path+" "+r.outcome(), func(t *testing.T) {
					r.run(&scene{t: t, s: s, other: &other, third: &third, reset: reset, values: map[string]string{}}, method, prefix+path)
				})
			}
		}
		// No test case may have changed these two users, which all test cases share.
		for _, p := range []person{other, third} {
			if !s.alive(t, p.token) {
				t.Errorf("the session of %s was revoked", p.username)
			}
			s.call(t, "GET", "/findUser?username="+p.username, bearer(p.token)).is(t, 200, shape{
				"auth": true, "first_name": "", "last_name": "", "email": p.email, "username": p.username, "message": aText,
			})
			s.login(t, p)
		}
	})
}

// outcome returns the last part of the subtest's name, such as "returns 403 username_taken for a
// taken username".
func (r *contractCase) outcome() string {
	text := strings.TrimSpace(fmt.Sprint("returns ", r.status, " ", r.code))
	if r.when != "" {
		text += " for " + r.when
	}
	return text
}

func (r *contractCase) run(c *scene, method, path string) {
	t := c.t
	// Replace the placeholders in the expected response before the request. Replacing them needs
	// tokens, which the request may revoke.
	want, _ := c.fill(r.body).(shape)
	var opts []option
	if r.as != "" {
		opts = append(opts, bearer(c.fill(r.as).(string)))
	}
	switch {
	case r.json != nil:
		opts = append(opts, jsonBody(c.fill(r.json)))
	case r.form != nil:
		var pairs []string
		for name, value := range r.form {
			pairs = append(pairs, name, c.fill(value).(string))
		}
		opts = append(opts, formBody(pairs...))
	}
	a := c.s.call(t, method, c.fill(path).(string), opts...)
	if a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control is %q, want no-store", a.header.Get("Cache-Control"))
	}
	if r.status == http.StatusOK {
		a.is(t, r.status, want)
		if token := a.header.Get("X-Auth-Token"); token != "" || want["token"] != nil {
			if token != a.text(t, "token") || !c.s.alive(t, token) {
				t.Error("the token in the header X-Auth-Token is refused, or differs from the token in the body")
			}
		}
	} else {
		a.problem(t, true, r.status, r.code, strings.Fields(r.bad)...)
		if a.header.Get("X-Auth-Token") != "" {
			t.Error("the error response has a token in X-Auth-Token")
		}
	}
	if r.then != nil {
		r.then(c)
	}
}
