package httpsuite

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// scene is who takes part in a row. People and what is theirs come into being
// when the row first names them, as {me.token}.
type scene struct {
	t *testing.T
	s *service
	// These two are shared by all rows.
	other, third *person
	// reset is a token that other was mailed; a row must not use it up.
	reset func() string
	known map[string]string
	me    person
}

func (c *scene) get(name string) string {
	c.t.Helper()
	if v, ok := c.known[name]; ok {
		return v
	}
	if who, _, _ := strings.Cut(name, "."); who == "me" && c.me.username == "" {
		c.me = c.s.register(c.t)
		c.known["me"], c.known["me.email"] = c.me.username, c.me.email
		c.known["me.token"], c.known["me.refresh"] = c.me.token, c.me.refresh
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
		c.t.Fatalf("the scene knows no {%s}", name)
	}
	c.known[name] = v
	return v
}

var placeholder = regexp.MustCompile(`\{[A-Za-z.]+\}`)

// fill puts what the scene knows into a value of the table.
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

// currentID is the id of a token's session.
func (s *service) currentID(t testing.TB, token string) string {
	t.Helper()
	return s.call(t, "GET", "/v1/sessions/current", bearerOf(token)).want(t, 200).text(t, "id")
}

// row is a line of the contract in one of its statuses.
type row struct {
	route  string // method and path, with query
	when   string
	as     string // whose token
	json   shape
	form   shape
	status int
	body   shape  // of a success
	code   string // of a problem
	bad    string // fields that a problem complains about
	then   func(c *scene)
}

const (
	goodPassword = "a newer and longer passphrase"
	longName     = "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn" // 65 characters
)

var (
	signedInShape = shape{"auth": true, "token": aJWT, "refresh_token": aText, "expires_in": 3600, "message": aText}
	messageShape  = shape{"message": aText}
	doneShape     = shape{"auth": true, "message": aText}
)

// loginShape is a login that is active, or that its user has just ended.
func loginShape(id, jti, device string, ended, current bool) shape {
	s := shape{
		"id": id, "user_id": "{me.sub}", "token_id": jti, "ip_address": "127.0.0.1", "device": device, "logged_in_at": aTime,
		"logged_out_at": nil, "logged_out": ended, "token_deleted": ended, "current": current,
	}
	if ended {
		s["logged_out_at"] = aTime
	}
	return s
}

func (c *scene) wantAlive(name string, want bool) {
	c.t.Helper()
	if got := c.s.alive(c.t, c.get(name)); got != want {
		c.t.Errorf("%s is accepted: %v, want %v", name, got, want)
	}
}

// wantPassword tells whether the user can sign in with a password.
func (c *scene) wantPassword(name, password string, status int) {
	c.t.Helper()
	c.s.call(c.t, "POST", "/loginUser", jsonBody(shape{"username": c.get(name), "password": password})).want(c.t, status)
}

var rows = []row{
	{
		route: "POST /registerUser", when: "all fields",
		json:   shape{"username": "{nobody}", "email": "{nobody}@example.com", "password": password, "first_name": "Ada", "last_name": "King"},
		status: 200, body: signedInShape, then: func(c *scene) { c.wantPassword("nobody", password, 200) },
	},
	{
		route: "POST /registerUser", when: "a form",
		form: shape{"username": "{nobody}", "email": "{nobody}@example.com", "password": password}, status: 200, body: signedInShape,
	},
	{
		route: "POST /registerUser", when: "username taken",
		json: shape{"username": "{other}", "email": "{nobody}@example.com", "password": password}, status: 403, code: "username_taken",
	},
	{
		route: "POST /registerUser", when: "username taken, in capitals",
		json: shape{"username": "{OTHER}", "email": "{nobody}@example.com", "password": password}, status: 403, code: "username_taken",
	},
	{
		route: "POST /registerUser", when: "email taken",
		json: shape{"username": "{nobody}", "email": "{other.email}", "password": password}, status: 403, code: "email_taken",
	},
	{
		route: "POST /registerUser", when: "email taken, in capitals",
		json: shape{"username": "{nobody}", "email": "{other.EMAIL}", "password": password}, status: 403, code: "email_taken",
	},
	{route: "POST /registerUser", when: "nothing sent", json: shape{}, status: 400, code: "invalid_request", bad: "username email password"},
	{
		route: "POST /registerUser", when: "no email",
		json: shape{"username": "{nobody}", "password": password}, status: 400, code: "invalid_request", bad: "email",
	},
	{
		route: "POST /registerUser", when: "username of 2 characters",
		json: shape{"username": "ab", "email": "{nobody}@example.com", "password": password}, status: 400, code: "invalid_request", bad: "username",
	},
	{
		route: "POST /registerUser", when: "username of 65 characters",
		json: shape{"username": longName, "email": "{nobody}@example.com", "password": password}, status: 400, code: "invalid_request", bad: "username",
	},
	{
		route: "POST /registerUser", when: "username of 64 characters outside ASCII",
		json:   shape{"username": "{nobody}" + strings.Repeat("é", 53), "email": "{nobody}@example.com", "password": password},
		status: 200, body: signedInShape,
	},
	{
		route: "POST /registerUser", when: "username with an @",
		json: shape{"username": "{nobody}@x", "email": "{nobody}@example.com", "password": password}, status: 400, code: "invalid_request", bad: "username",
	},
	{
		route: "POST /registerUser", when: "username with a control character",
		json: shape{"username": "{nobody}\x07", "email": "{nobody}@example.com", "password": password}, status: 400, code: "invalid_request", bad: "username",
	},
	{
		route: "POST /registerUser", when: "password of 7 bytes",
		json: shape{"username": "{nobody}", "email": "{nobody}@example.com", "password": "kX9#vQ2"}, status: 400, code: "invalid_request", bad: "password",
	},
	{
		route: "POST /registerUser", when: "password of 1025 bytes",
		json:   shape{"username": "{nobody}", "email": "{nobody}@example.com", "password": strings.Repeat("kX9#v", 205)},
		status: 400, code: "invalid_request", bad: "password",
	},
	{
		route: "POST /registerUser", when: "password of 1024 bytes",
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

	{route: "POST /loginUser", when: "right password", json: shape{"username": "{third}", "password": password}, status: 200, body: signedInShape},
	{route: "POST /loginUser", when: "a form", form: shape{"username": "{other}", "password": password}, status: 200, body: signedInShape},
	{route: "POST /loginUser", when: "username in capitals", json: shape{"username": "{OTHER}", "password": password}, status: 200, body: signedInShape},
	{route: "POST /loginUser", when: "no such username", json: shape{"username": "{nobody}", "password": password}, status: 401, code: "user_not_found"},
	{route: "POST /loginUser", when: "wrong password", json: shape{"username": "{other}", "password": "wrong passphrase"}, status: 403, code: "invalid_credentials"},
	{route: "POST /loginUser", when: "nothing sent", json: shape{}, status: 400, code: "invalid_request", bad: "username password"},
	{route: "POST /loginUser", when: "no password", form: shape{"username": "{other}"}, status: 400, code: "invalid_request", bad: "password"},

	{route: "DELETE /logout", as: "{me.token}", status: 200, body: messageShape, then: func(c *scene) { c.wantAlive("me.token", false) }},

	{
		route: "GET /findUser?username={me}", as: "{me.token}", status: 200,
		body: shape{"auth": true, "first_name": "", "last_name": "", "email": "{me.email}", "username": "{me}", "message": aText},
	},
	{
		route: "GET /findUser?username={OTHER}", when: "own name in capitals", as: "{other.token}", status: 200,
		body: shape{"auth": true, "first_name": "", "last_name": "", "email": "{other.email}", "username": "{other}", "message": aText},
	},
	{route: "GET /findUser?username={other}", when: "another user's name", as: "{third.token}", status: 403, code: "other_user"},
	{route: "GET /findUser?username={nobody}", when: "nobody's name", as: "{third.token}", status: 403, code: "other_user"},
	{route: "GET /findUser", when: "no name", as: "{third.token}", status: 400, code: "invalid_request", bad: "username"},

	{
		route: "PUT /updateUser", when: "all fields", as: "{me.token}",
		json:   shape{"username": "{me}", "first_name": "Ada", "last_name": "Lovelace", "email": "{nobody}@example.com"},
		status: 200, body: doneShape, then: func(c *scene) {
			c.s.call(c.t, "GET", "/findUser?username="+c.get("me"), bearerOf(c.me.token)).is(c.t, 200, shape{
				"auth": true, "first_name": "Ada", "last_name": "Lovelace", "email": c.get("nobody") + "@example.com", "username": c.get("me"), "message": aText,
			})
		},
	},
	{
		route: "PUT /updateUser", when: "one field, as a form", as: "{me.token}", form: shape{"username": "{me}", "last_name": "King"},
		status: 200, body: doneShape, then: func(c *scene) {
			c.s.call(c.t, "GET", "/findUser?username="+c.get("me"), bearerOf(c.me.token)).is(c.t, 200, shape{
				"auth": true, "first_name": "", "last_name": "King", "email": c.get("me.email"), "username": c.get("me"), "message": aText,
			})
		},
	},
	{route: "PUT /updateUser", when: "another user's name", as: "{third.token}", json: shape{"username": "{other}", "first_name": "X"}, status: 403, code: "other_user"},
	{route: "PUT /updateUser", when: "nobody's name", as: "{third.token}", json: shape{"username": "{nobody}", "first_name": "X"}, status: 403, code: "other_user"},
	{route: "PUT /updateUser", when: "an email that is taken", as: "{third.token}", json: shape{"username": "{third}", "email": "{other.EMAIL}"}, status: 403, code: "email_taken"},
	{route: "PUT /updateUser", when: "no name", as: "{third.token}", json: shape{"first_name": "X"}, status: 400, code: "invalid_request", bad: "username"},
	{route: "PUT /updateUser", when: "no email address", as: "{third.token}", json: shape{"username": "{third}", "email": "nonsense"}, status: 400, code: "invalid_request", bad: "email"},

	{route: "DELETE /deleteUser?username={me}", as: "{me.token}", status: 200, body: doneShape, then: func(c *scene) {
		c.wantAlive("me.token", false)
		c.wantPassword("me", password, 401)
		again := c.s.call(c.t, "POST", "/registerUser", jsonBody(shape{"username": c.me.username, "email": c.me.email, "password": password})).want(c.t, 200)
		if claimsOf(c.t, again.text(c.t, "token"))["sub"] == c.get("me.sub") {
			c.t.Error("an account made anew under an old name has the old sub")
		}
		c.wantAlive("me.token", false)
	}},
	{route: "DELETE /deleteUser?username={me}", when: "signed in elsewhere too", as: "{me.second.token}", status: 200, body: doneShape, then: func(c *scene) {
		c.wantAlive("me.token", false)
		c.s.refreshed(c.t, c.me.refresh, 400)
	}},
	{route: "DELETE /deleteUser?username={other}", when: "another user's name", as: "{third.token}", status: 403, code: "other_user"},
	{route: "DELETE /deleteUser?username={nobody}", when: "nobody's name", as: "{third.token}", status: 403, code: "other_user"},
	{route: "DELETE /deleteUser", when: "no name", as: "{third.token}", status: 400, code: "invalid_request", bad: "username"},

	{route: "POST /forgotPassword", json: shape{"email": "{me.email}"}, status: 200, body: messageShape},
	{route: "POST /forgotPassword", when: "a form, in capitals", form: shape{"email": "{me.EMAIL}"}, status: 200, body: messageShape},
	{route: "POST /forgotPassword", when: "no email", json: shape{}, status: 400, code: "invalid_request", bad: "email"},
	{route: "POST /forgotPassword", when: "no email address", json: shape{"email": "nonsense"}, status: 400, code: "invalid_request", bad: "email"},
	{route: "POST /forgotPassword", when: "nobody's email", json: shape{"email": "{nobody}@example.com"}, status: 403, code: "user_not_found"},

	{route: "GET /reset?resetPasswordToken={other.reset}", status: 200, body: shape{"username": "{other}", "message": aText}},
	{route: "GET /reset?resetPasswordToken={other.reset}", when: "looked at again", status: 200, body: shape{"username": "{other}", "message": aText}},
	{route: "GET /reset?resetPasswordToken=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", when: "unknown token", status: 403, code: "invalid_reset_token"},
	{route: "GET /reset?resetPasswordToken=%00", when: "nonsense", status: 403, code: "invalid_reset_token"},
	{route: "GET /reset", when: "no token", status: 400, code: "invalid_request", bad: "resetPasswordToken"},

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
		route: "PUT /updatePassword", when: "right current password, as a form", as: "{me.token}",
		form: shape{"username": "{me}", "password": goodPassword, "current_password": password}, status: 200, body: doneShape,
	},
	{
		route: "PUT /updatePassword", when: "wrong current password", as: "{me.second.token}",
		json:   shape{"username": "{me}", "password": goodPassword, "current_password": "wrong passphrase"},
		status: 403, code: "invalid_credentials", then: func(c *scene) {
			c.wantAlive("me.token", true)
			c.wantPassword("me", password, 200)
		},
	},
	{
		route: "PUT /updatePassword", when: "empty current password", as: "{me.token}",
		json:   shape{"username": "{me}", "password": goodPassword, "current_password": ""},
		status: 403, code: "invalid_credentials", then: func(c *scene) { c.wantPassword("me", password, 200) },
	},
	{
		route: "PUT /updatePassword", when: "another user's name", as: "{third.token}",
		json: shape{"username": "{other}", "password": goodPassword}, status: 403, code: "other_user",
	},
	{
		route: "PUT /updatePassword", when: "nobody's name", as: "{third.token}",
		json: shape{"username": "{nobody}", "password": goodPassword}, status: 403, code: "other_user",
	},
	{route: "PUT /updatePassword", when: "nothing sent", as: "{third.token}", json: shape{}, status: 400, code: "invalid_request", bad: "username password"},
	{route: "PUT /updatePassword", when: "too short", as: "{third.token}", json: shape{"username": "{third}", "password": "kX9#vQ2"}, status: 400, code: "invalid_request", bad: "password"},

	{
		route: "PUT /updatePasswordViaEmail", json: shape{"username": "{me}", "password": goodPassword, "resetPasswordToken": "{me.reset}"},
		status: 200, body: doneShape, then: func(c *scene) {
			c.wantAlive("me.token", false)
			c.s.refreshed(c.t, c.me.refresh, 400)
			c.wantPassword("me", password, 403)
			c.wantPassword("me", goodPassword, 200)
			// The token works once.
			c.s.call(c.t, "GET", "/reset?resetPasswordToken="+c.get("me.reset")).problem(c.t, true, 403, "invalid_reset_token")
			c.s.call(c.t, "PUT", "/updatePasswordViaEmail", jsonBody(shape{"username": c.get("me"), "password": password, "resetPasswordToken": c.get("me.reset")})).
				problem(c.t, true, 403, "invalid_reset_token")
		},
	},
	{
		route: "PUT /updatePasswordViaEmail", when: "user not found",
		json: shape{"username": "{nobody}", "password": goodPassword, "resetPasswordToken": "{other.reset}"}, status: 401, code: "user_not_found",
	},
	{
		route: "PUT /updatePasswordViaEmail", when: "another user's token",
		json: shape{"username": "{third}", "password": goodPassword, "resetPasswordToken": "{other.reset}"}, status: 403, code: "invalid_reset_token",
		then: func(c *scene) { c.wantAlive("third.token", true) },
	},
	{
		route: "PUT /updatePasswordViaEmail", when: "invalid token",
		form: shape{"username": "{other}", "password": goodPassword, "resetPasswordToken": "nonsense"}, status: 403, code: "invalid_reset_token",
	},
	{route: "PUT /updatePasswordViaEmail", when: "nothing sent", json: shape{}, status: 400, code: "invalid_request", bad: "username password resetPasswordToken"},
	{
		route: "PUT /updatePasswordViaEmail", when: "too short a password uses nothing up",
		json: shape{"username": "{other}", "password": "kX9#vQ2", "resetPasswordToken": "{other.reset}"}, status: 400, code: "invalid_request", bad: "password",
		then: func(c *scene) {
			c.s.call(c.t, "GET", "/reset?resetPasswordToken="+c.get("other.reset")).want(c.t, 200)
		},
	},

	{route: "GET /user/logins/show", when: "signed in twice", as: "{me.second.token}", status: 200, body: shape{"user_logins": []any{
		loginShape("{me.second}", "{me.second.jti}", "curl", false, true),
		loginShape("{me.id}", "{me.jti}", "Go-http-client", false, false),
	}}},

	{
		route: "GET /user/logins/delete/{me.second}", as: "{me.token}", status: 200,
		body: shape{"deleted": true, "user_login": loginShape("{me.second}", "{me.second.jti}", "curl", true, false)},
		then: func(c *scene) {
			c.wantAlive("me.second.token", false)
			c.wantAlive("me.token", true)
			// Ending what is already ended is no error, and changes nothing.
			again := c.s.call(c.t, "GET", "/user/logins/delete/"+c.get("me.second"), bearerOf(c.me.token)).want(c.t, 200)
			third := c.s.call(c.t, "GET", "/user/logins/delete/"+c.get("me.second"), bearerOf(c.me.token)).want(c.t, 200)
			if string(again.body) != string(third.body) {
				c.t.Errorf("ended twice: %s, then %s", again.body, third.body)
			}
			c.wantAlive("me.token", true)
		},
	},
	{
		route: "GET /user/logins/delete/{me.id}", when: "the current one", as: "{me.token}", status: 200,
		body: shape{"deleted": true, "user_login": loginShape("{me.id}", "{me.jti}", "Go-http-client", true, true)},
		then: func(c *scene) { c.wantAlive("me.token", false) },
	},
	{
		route: "GET /user/logins/delete/{other.id}", when: "another user's", as: "{third.token}", status: 400, code: "session_not_found",
		then: func(c *scene) { c.wantAlive("other.token", true) },
	},
	{route: "GET /user/logins/delete/{nobody}", when: "an id that nobody has", as: "{third.token}", status: 400, code: "session_not_found"},
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
		route: "GET /user/logins/delete/all/not-current", when: "there is no other", as: "{me.token}", status: 200,
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

func TestContract(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		other, third := s.register(t), s.register(t)
		var mailed string
		reset := func() string {
			if mailed == "" {
				mailed = s.resetToken(t, other)
			}
			return mailed
		}
		for _, prefix := range []string{"", "/api/v1"} {
			for _, r := range rows {
				method, path, _ := strings.Cut(r.route, " ")
				t.Run(method+" "+prefix+path+" "+r.when, func(t *testing.T) {
					r.run(&scene{t: t, s: s, other: &other, third: &third, reset: reset, known: map[string]string{}}, method, prefix+path)
				})
			}
		}
		// Nothing of this harmed those who only stood by.
		for _, p := range []person{other, third} {
			if !s.alive(t, p.token) {
				t.Errorf("%s was signed out", p.username)
			}
			s.call(t, "GET", "/findUser?username="+p.username, bearerOf(p.token)).is(t, 200, shape{
				"auth": true, "first_name": "", "last_name": "", "email": p.email, "username": p.username, "message": aText,
			})
			s.login(t, p)
		}
	})
}

func (r *row) run(c *scene, method, path string) {
	t := c.t
	// People who are only seen in the answer are there before the question.
	want, _ := c.fill(r.body).(shape)
	var opts []option
	if r.as != "" {
		opts = append(opts, bearerOf(c.fill(r.as).(string)))
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
		t.Errorf("Cache-Control is %q", a.header.Get("Cache-Control"))
	}
	if r.status == http.StatusOK {
		a.is(t, r.status, want)
		if token := a.header.Get("X-Auth-Token"); token != "" || want["token"] != nil {
			if token != a.text(t, "token") || !c.s.alive(t, token) {
				t.Error("the header x-auth-token is not the body's token, or not good")
			}
		}
	} else {
		a.problem(t, true, r.status, r.code, strings.Fields(r.bad)...)
		if a.header.Get("X-Auth-Token") != "" {
			t.Error("a token beside an error")
		}
	}
	if r.then != nil {
		r.then(c)
	}
}

// ---- tokens ----------------------------------------------------------------

// misuse is a request with something that is no good token.
type misuse struct {
	name  string
	opts  []option
	error bool // the challenge says that a token was there and is no good
}

// misuses makes of two good tokens what must be refused everywhere.
func misuses(t *testing.T, p, q person, revoked string) []misuse {
	t.Helper()
	header64, rest, _ := strings.Cut(p.token, ".")
	payload64, signature, _ := strings.Cut(rest, ".")
	_, rest, _ = strings.Cut(q.token, ".")
	payloadQ, _, _ := strings.Cut(rest, ".")
	flipped := "A" + signature[1:]
	if signature[0] == 'A' {
		flipped = "B" + signature[1:]
	}
	key, err := session.GenerateKey(session.AlgEdDSA)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims(claimsOf(t, p.token))
	unsigned := jwt.NewWithClaims(jwt.SigningMethodNone, claims)
	unsigned.Header["typ"] = "at+jwt"
	none, err := unsigned.SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	symmetric := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	symmetric.Header["typ"], symmetric.Header["kid"] = "at+jwt", key.ID
	hs256, err := symmetric.SignedString([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	expired := maps.Clone(claims)
	expired["exp"] = time.Now().Add(-time.Hour).Unix()
	data, err := json.Marshal(expired)
	if err != nil {
		t.Fatal(err)
	}
	expired64 := base64.RawURLEncoding.EncodeToString(data)

	list := []misuse{
		{"no token", nil, false},
		{"another scheme", []option{header("Authorization", "Basic "+p.token)}, false},
		{"no scheme", []option{header("Authorization", p.token)}, false},
		{"in the query", []option{func(r *http.Request) { addQuery(r, "access_token="+p.token) }}, false},
		{"in a cookie", []option{header("Cookie", "token="+p.token+"; x-auth-token="+p.token+"; access_token="+p.token)}, false},
		{"in x-auth-token", []option{header("X-Auth-Token", p.token)}, false},
		{"given twice", []option{func(r *http.Request) {
			r.Header["Authorization"] = []string{"Bearer " + p.token, "Bearer " + p.token}
		}}, true},
	}
	for name, token := range map[string]string{
		"empty": "", "garbage": "garbage", "dots": "..", "three letters": "a.b.c", "cut": p.token[:len(p.token)-1],
		"without signature": header64 + "." + payload64 + ".", "flipped": header64 + "." + payload64 + "." + flipped,
		"another's payload": header64 + "." + payloadQ + "." + signature, "expired": header64 + "." + expired64 + "." + signature,
		"none": none, "HS256": hs256, "padded": p.token + "=", "with a dot more": p.token + ".", "twice": p.token + " " + p.token,
		"with a comma": p.token + ",", "10 KB": strings.Repeat("x", 10<<10), "a refresh token": p.refresh, "not ASCII": "ü" + p.token,
		"revoked": revoked,
	} {
		list = append(list, misuse{name, []option{bearerOf(token)}, true})
	}
	return list
}

func addQuery(r *http.Request, query string) {
	if r.URL.RawQuery != "" {
		query = r.URL.RawQuery + "&" + query
	}
	r.URL.RawQuery = query
}

// wantRefused asks every protected route and fails the test unless each answers 401.
func (s *service) wantRefused(t *testing.T, m misuse, username, id string) {
	t.Helper()
	for _, r := range everyRoute() {
		if !r.protected {
			continue
		}
		path := r.at(id)
		if strings.Contains(r.params, "username") {
			path += "?username=" + username
		}
		opts := m.opts
		if r.fields != "" {
			opts = append([]option{jsonBody(shape{"username": username, "password": goodPassword, "first_name": "X"})}, opts...)
		}
		a := s.call(t, r.method, path, opts...)
		if a.status != http.StatusUnauthorized {
			t.Errorf("%s %s with a token %q: status %d", r.method, r.path, m.name, a.status)
			continue
		}
		code := "no_token"
		if m.error {
			code = "invalid_token"
		}
		a.problem(t, r.kind == classic, 401, code)
		if challenge := a.header.Get("WWW-Authenticate"); strings.Contains(challenge, "error=") != m.error ||
			m.error && !strings.Contains(challenge, `error="invalid_token"`) {
			t.Errorf("%s %s with a token %q: challenge %q", r.method, r.path, m.name, challenge)
		}
	}
}

func TestProtectedRoutesWantAGoodToken(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p, q := s.register(t), s.register(t)
		revoked := s.login(t, p)
		s.call(t, "DELETE", "/logout", bearerOf(revoked)).want(t, 200)
		id := s.currentID(t, p.token)
		for _, m := range misuses(t, p, q, revoked) {
			t.Run(m.name, func(t *testing.T) { s.wantRefused(t, m, p.username, id) })
		}
		if !s.alive(t, p.token) || !s.alive(t, q.token) {
			t.Error("a bad token ended a session")
		}
		s.login(t, p)

		// The token of one who is gone.
		s.call(t, "DELETE", "/deleteUser?username="+q.username, bearerOf(q.token)).want(t, 200)
		s.wantRefused(t, misuse{"of a deleted user", []option{bearerOf(q.token)}, true}, p.username, id)
	})
}

// An access token is refused everywhere when its time and the leeway are over.
func TestExpiredTokenIsRefused(t *testing.T) {
	limits := app.Settings{AccessTokenTTL: time.Hour, SessionIdleTTL: 48 * time.Hour, SessionMaxTTL: 96 * time.Hour}
	eachStore(t, limits, func(t *testing.T, s *service, c *clock) {
		p := s.register(t)
		id := s.currentID(t, p.token)
		c.set(c.Now().Add(time.Hour))
		if !s.alive(t, p.token) {
			t.Error("a token is refused within its leeway of 30 s")
		}
		c.set(c.Now().Add(31 * time.Second))
		s.wantRefused(t, misuse{"expired", []option{bearerOf(p.token)}, true}, p.username, id)
		if token, _ := s.refreshed(t, p.refresh, 200); !s.alive(t, token) {
			t.Error("its session should go on")
		}
	})
}

// Plain expiry sets logged_out alone, and ending what expired is no error.
func TestEndingAnExpiredLogin(t *testing.T) {
	limits := app.Settings{AccessTokenTTL: time.Hour, SessionIdleTTL: 2 * time.Hour, SessionMaxTTL: 96 * time.Hour}
	eachStore(t, limits, func(t *testing.T, s *service, c *clock) {
		start := c.Now()
		p := s.register(t)
		id := s.currentID(t, p.token)
		c.set(start.Add(3 * time.Hour))
		token := s.login(t, p)
		a := s.call(t, "GET", "/user/logins/delete/"+id, bearerOf(token)).want(t, 200)
		var body struct {
			UserLogin struct {
				LoggedOut    bool      `json:"logged_out"`
				LoggedOutAt  time.Time `json:"logged_out_at"`
				TokenDeleted bool      `json:"token_deleted"`
			} `json:"user_login"`
		}
		a.into(t, &body)
		if l := body.UserLogin; !l.LoggedOut || l.TokenDeleted || !l.LoggedOutAt.Equal(start.Add(2*time.Hour)) {
			t.Errorf("the expired login reads %s", a.body)
		}
		var show struct {
			UserLogins []any `json:"user_logins"`
		}
		s.call(t, "GET", "/user/logins/show", bearerOf(token)).want(t, 200).into(t, &show)
		if len(show.UserLogins) != 1 {
			t.Errorf("an expired login is listed as active: %v", show.UserLogins)
		}
	})
}

// The GET routes that end sessions do so for nobody who only follows a link.
func TestEndingByGETIsGuarded(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		second := s.login(t, p)
		id := s.currentID(t, second)
		for _, prefix := range []string{"", "/api/v1"} {
			for _, path := range []string{"/user/logins/delete/" + id, "/user/logins/delete/all/not-current", "/user/logins/deletes/all"} {
				path = prefix + path
				a := s.call(t, "HEAD", path, bearerOf(p.token)).want(t, 405)
				if allow := a.header.Get("Allow"); allow != "GET" {
					t.Errorf("HEAD %s: Allow is %q", path, allow)
				}
				a = s.call(t, "GET", path, header("Cookie", "token="+p.token+"; Authorization=Bearer "+p.token)).want(t, 401)
				if a.header.Get("Cache-Control") != "no-store" {
					t.Errorf("GET %s may be stored: %q", path, a.header.Get("Cache-Control"))
				}
			}
		}
		if !s.alive(t, p.token) || !s.alive(t, second) {
			t.Error("HEAD or a cookie ended a session")
		}
		a := s.call(t, "GET", "/user/logins/deletes/all", bearerOf(p.token)).want(t, 200)
		if a.header.Get("Cache-Control") != "no-store" || a.header.Get("Set-Cookie") != "" {
			t.Errorf("headers %v", a.header)
		}
	})
}

// A reset link stops working when its time is over, and its mail is made of the
// settings and not of what a request says.
func TestResetLink(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		s.call(t, "POST", "/forgotPassword", jsonBody(shape{"email": p.email}), func(r *http.Request) { r.Host = "evil.example" },
			header("X-Forwarded-Host", "evil.example"), header("Forwarded", "host=evil.example")).want(t, 200)
		m := s.awaitMail(t, p.email, "resetPasswordToken=")
		if strings.Contains(m.Text, "evil.example") {
			t.Errorf("the mail believes the Host header:\n%s", m.Text)
		}
		public := "https://id.example"
		if s.prefix == "" { // dev
			public = s.base
		}
		if !strings.Contains(m.Text, public+"/reset?resetPasswordToken=") {
			t.Errorf("the link does not begin with %s:\n%s", public, m.Text)
		}
		token := resetLink.FindStringSubmatch(m.Text)[1]
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(10 * time.Second); s.call(t, "GET", "/reset?resetPasswordToken="+token).status != 403; <-tick.C {
			if time.Now().After(deadline) {
				t.Fatal("a link of two seconds still works")
			}
		}
		s.call(t, "PUT", "/updatePasswordViaEmail", jsonBody(shape{"username": p.username, "password": goodPassword, "resetPasswordToken": token})).
			problem(t, true, 403, "invalid_reset_token")
		if !s.alive(t, p.token) {
			t.Error("an expired link ended a session")
		}
		s.login(t, p)
	}, "RESET_TTL=2s")
}

// HIDE_ACCOUNTS closes every answer of these routes that tells whether an
// account exists.
func TestHideAccounts(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		name := "u" + strings.ToLower(issuer.NewID()[:10])
		email := name + "@example.com"
		register := func(username, email string) answer {
			return s.call(t, "POST", "/registerUser", jsonBody(shape{"username": username, "email": email, "password": password})).
				is(t, 200, shape{"auth": false, "message": aText})
		}
		first := register(name, email)
		if first.header.Get("X-Auth-Token") != "" {
			t.Error("registering handed out a token")
		}
		login := func(username, password string) answer {
			return s.call(t, "POST", "/loginUser", jsonBody(shape{"username": username, "password": password}))
		}
		pending := login(name, password)
		link := s.awaitMail(t, email, "#token=")
		token := verifyLink.FindStringSubmatch(link.Text)[1]
		s.call(t, "POST", "/v1/users/verify", jsonBody(shape{"token": token})).empty(t, 204)
		signedIn := login(name, password).is(t, 200, signedInShape).text(t, "token")

		taken := register(name+"2", strings.ToUpper(email))
		sameAnswer(t, "a taken and a free email", taken, first)
		s.awaitMail(t, strings.ToLower(email), "already have")
		s.call(t, "POST", "/registerUser", jsonBody(shape{"username": name, "email": "x" + email, "password": password})).
			problem(t, true, 403, "username_taken")

		wrong := login(name, "wrong passphrase")
		wrong.problem(t, true, 401, "invalid_credentials")
		sameAnswer(t, "an unknown name and a wrong password", login("nobody-"+name, password), wrong)
		sameAnswer(t, "a name that waits for its mail and a wrong password", pending, wrong)

		forgot := s.call(t, "POST", "/forgotPassword", jsonBody(shape{"email": email})).is(t, 200, messageShape)
		unknown := s.call(t, "POST", "/forgotPassword", jsonBody(shape{"email": "nobody-" + email}))
		sameAnswer(t, "an unknown and a known address", unknown, forgot)

		reset := func(username string) answer {
			return s.call(t, "PUT", "/updatePasswordViaEmail", jsonBody(shape{"username": username, "password": goodPassword, "resetPasswordToken": "nonsense"}))
		}
		reset(name).problem(t, true, 403, "invalid_reset_token")
		sameAnswer(t, "an unknown and a known name", reset("nobody-"+name), reset(name))

		updated := s.call(t, "PUT", "/updateUser", bearerOf(signedIn), jsonBody(shape{"username": name, "first_name": "Ada"})).want(t, 200)
		if updated.text(t, "auth") != "true" {
			t.Errorf("the rest works as before: %s", updated.body)
		}
	}, "HIDE_ACCOUNTS=true")
}

var verifyLink = regexp.MustCompile(`#token=([A-Za-z0-9_-]+)`)

// sameAnswer fails the test if anything but the request's id tells two answers apart.
func sameAnswer(t *testing.T, what string, a, b answer) {
	t.Helper()
	if a.status != b.status || string(a.body) != string(b.body) {
		t.Errorf("%s are told apart: %d %s and %d %s", what, a.status, a.body, b.status, b.body)
	}
	ha, hb := a.header.Clone(), b.header.Clone()
	for _, name := range []string{"Date", "X-Request-Id"} {
		ha.Del(name)
		hb.Del(name)
	}
	if !maps.EqualFunc(ha, hb, slices.Equal) {
		t.Errorf("%s are told apart by headers: %v and %v", what, ha, hb)
	}
	if got := a.header.Get("Content-Length"); got != strconv.Itoa(len(a.body)) {
		t.Errorf("Content-Length is %s of %d bytes", got, len(a.body))
	}
}
