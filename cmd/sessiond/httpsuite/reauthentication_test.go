package httpsuite

import (
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
)

// stepUpSettings are the settings of a service whose sensitive routes want a password check of the
// last 10 minutes.
var stepUpSettings = app.Settings{
	AccessTokenTTL: time.Hour, SessionIdleTTL: 48 * time.Hour, SessionMaxTTL: 96 * time.Hour,
	RefreshGrace: 30 * time.Second, ReauthMaxAge: 10 * time.Minute,
}

// sensitive is a request with which a thief of an access token could take over an account.
type sensitive struct {
	method, path string
	body         shape // the placeholders {name} and {email} stand for the user, {id} for another session
	status       int   // status right after a sign-in
}

var sensitiveV1 = []sensitive{
	{"PATCH", "/v1/users/me", shape{"email": "new-{email}"}, 200},
	{"PUT", "/v1/users/me/password", shape{"current_password": password, "new_password": password}, 204},
	{"DELETE", "/v1/sessions/{id}", nil, 204},
	{"DELETE", "/v1/sessions?except=current", nil, 200},
	{"DELETE", "/v1/sessions", nil, 200},
	{"DELETE", "/v1/users/me", nil, 204},
}

var sensitiveClassic = []sensitive{
	{"PUT", "/updateUser", shape{"username": "{name}", "email": "new-{email}"}, 200},
	{"PUT", "/updatePassword", shape{"username": "{name}", "password": password}, 200},
	{"GET", "/user/logins/deletes/all", nil, 200},
	{"DELETE", "/deleteUser?username={name}", nil, 200},
}

// send sends the request of a user, with some more fields in the body.
func (r sensitive) send(t *testing.T, s *service, p person, token, id string, more shape) response {
	t.Helper()
	fill := strings.NewReplacer("{name}", p.username, "{email}", p.email, "{id}", id).Replace
	opts := []option{bearer(token)}
	if len(r.body)+len(more) > 0 {
		body := shape{}
		for name, value := range r.body {
			body[name] = fill(value.(string))
		}
		for name, value := range more {
			body[name] = value
		}
		opts = append(opts, jsonBody(body))
	}
	return s.call(t, r.method, fill(r.path), opts...)
}

// wantChallenge fails the test unless the response is the challenge of RFC 9470.
func (a response) wantChallenge(t *testing.T, classic bool) {
	t.Helper()
	a.problem(t, classic, 401, "insufficient_user_authentication")
	challenge := a.header.Get("WWW-Authenticate")
	if !strings.Contains(challenge, `error="insufficient_user_authentication"`) || !strings.Contains(challenge, `max_age="600"`) {
		t.Errorf("the challenge is %q", challenge)
	}
}

// A thief has an access token of a user who signed in 11 minutes ago. Without the password, neither
// that token nor a refreshed one takes over the account. Right after a sign-in every route works.
func TestSensitiveRoutes_WantRecentSignIn_ASVS_V6_2_3_V7_5_1_V7_5_2_V10_3_4(t *testing.T) {
	eachStore(t, stepUpSettings, func(t *testing.T, s *service, c *clock) {
		for _, r := range append(sensitiveV1, sensitiveClassic...) {
			classic := !strings.HasPrefix(r.path, "/v1/")
			paths := []string{r.path}
			if classic {
				paths = append(paths, "/api/v1"+r.path)
			}
			for _, r.path = range paths {
				t.Run(r.method+" "+r.path, func(t *testing.T) {
					p := s.register(t)
					other := s.login(t, p)
					id := s.currentID(t, other)
					c.set(c.Now().Add(10 * time.Minute))
					refreshed, _ := s.refreshed(t, p.refresh, 200)
					for _, token := range []string{p.token, refreshed} {
						r.send(t, s, p, token, id, nil).wantChallenge(t, classic)
					}
					if !s.alive(t, p.token) || !s.alive(t, other) {
						t.Error("a refused request revoked a session")
					}
					s.call(t, "GET", "/v1/users/me", bearer(p.token)).is(t, 200, userShape(p, false))

					// An invalid token must get 401 invalid_token, and not the challenge.
					r.send(t, s, p, "x"+p.token, id, nil).problem(t, classic, 401, "invalid_token")

					fresh := s.login(t, p)
					c.set(c.Now().Add(10*time.Minute - time.Second))
					r.send(t, s, p, fresh, id, nil).want(t, r.status)
				})
			}
		}
	})
}

func TestInsensitiveRoutes_WorkWithoutRecentSignIn_ASVS_V7_5_2(t *testing.T) {
	eachStore(t, stepUpSettings, func(t *testing.T, s *service, c *clock) {
		p := s.register(t)
		other := s.currentID(t, s.login(t, p))
		c.set(c.Now().Add(50 * time.Minute))
		s.call(t, "PATCH", "/v1/users/me", bearer(p.token), jsonBody(shape{"first_name": "Ada"})).want(t, 200)
		s.call(t, "PUT", "/updateUser", bearer(p.token), jsonBody(shape{"username": p.username, "first_name": "Eva"})).want(t, 200)
		s.call(t, "GET", "/user/logins/delete/"+other, bearer(p.token)).want(t, 200)
		s.call(t, "GET", "/user/logins/delete/all/not-current", bearer(p.token)).want(t, 200)
		s.call(t, "DELETE", "/v1/sessions/"+s.currentID(t, p.token), bearer(p.token)).want(t, 204)
		if s.alive(t, p.token) {
			t.Error("a client could not end its own session")
		}
	})
}

// The password in the body takes the place of a recent sign-in, as JSON and as a form. A wrong one is
// refused even right after a sign-in.
func TestClassicRoutes_CurrentPasswordTakesPlaceOfRecentSignIn_ASVS_V6_2_3(t *testing.T) {
	eachStore(t, stepUpSettings, func(t *testing.T, s *service, c *clock) {
		for _, r := range sensitiveClassic {
			p := s.register(t)
			wrong := shape{"current_password": "wrong passphrase"}
			r.send(t, s, p, p.token, "", wrong).problem(t, true, 403, "invalid_credentials")
			c.set(c.Now().Add(50 * time.Minute))
			r.send(t, s, p, p.token, "", wrong).problem(t, true, 403, "invalid_credentials")
			s.call(t, "GET", "/v1/users/me", bearer(p.token)).is(t, 200, userShape(p, false))
			r.send(t, s, p, p.token, "", shape{"current_password": password}).want(t, r.status)
		}
		p := s.register(t)
		c.set(c.Now().Add(50 * time.Minute))
		s.call(t, "GET", "/user/logins/deletes/all?current_password=correct+horse+battery", bearer(p.token)).wantChallenge(t, true)
		s.call(t, "DELETE", "/deleteUser?username="+p.username, bearer(p.token), formBody("current_password", password)).want(t, 200)
	})
}

// Another user's name is refused as always, before the age of the sign-in matters.
func TestClassicRoutes_RefuseOtherUserBeforeTheyAskForPassword(t *testing.T) {
	eachStore(t, stepUpSettings, func(t *testing.T, s *service, c *clock) {
		p, q := s.register(t), s.register(t)
		c.set(c.Now().Add(50 * time.Minute))
		for _, r := range sensitiveClassic {
			if strings.Contains(r.path, "logins") {
				continue // this route names no user
			}
			r.send(t, s, q, p.token, "", nil).problem(t, true, 403, "other_user")
		}
	})
}

func TestClassicRoutes_WorkAtAnyAgeOfSignInIfOn_ASVS_V6_2_3_V7_5_1(t *testing.T) {
	settings := stepUpSettings
	settings.ClassicRoutes = "on"
	eachStore(t, settings, func(t *testing.T, s *service, c *clock) {
		for _, r := range sensitiveClassic {
			p := s.register(t)
			c.set(c.Now().Add(50 * time.Minute))
			r.send(t, s, p, p.token, "", shape{"current_password": "wrong passphrase"}).problem(t, true, 403, "invalid_credentials")
			r.send(t, s, p, p.token, "", nil).want(t, r.status)
		}
		p := s.register(t)
		c.set(c.Now().Add(50 * time.Minute))
		s.call(t, "DELETE", "/v1/sessions", bearer(p.token)).wantChallenge(t, false)
	})
}

func TestClassicRoutes_AreAbsentIfOff(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		for _, r := range everyRoute() {
			if r.kind == classic {
				s.call(t, r.method, r.at("x")).problem(t, false, 404, "not_found")
			}
		}
		document := string(s.call(t, "GET", "/openapi.json").want(t, 200).body)
		page := string(s.call(t, "GET", "/docs").want(t, 200).body)
		for _, r := range routes {
			if got := strings.Contains(document, `"`+r.path+`"`); got == (r.kind == classic) {
				t.Errorf("/openapi.json has %s: %t", r.path, got)
			}
			if got := strings.Contains(page, ">"+r.path+"<"); got == (r.kind == classic) {
				t.Errorf("/docs has %s: %t", r.path, got)
			}
		}
		for _, word := range []string{"registerUser", "/api/v1"} {
			if strings.Contains(document, word) || strings.Contains(page, word) {
				t.Errorf("the documents contain %q", word)
			}
		}
		name := newName()
		s.call(t, "POST", "/v1/users", registration(name, name+"@example.com", password)).want(t, 202)
	}, "CLASSIC_ROUTES=off", "RESET_URL=https://app.example/reset")
}

// Somebody may have a copy of the access token from before. The other access tokens of the session
// stay valid, because requests with them may be under way.
func TestReauthentication_RevokesTheTokenThatItReplaces_ASVS_V7_2_4_V10_3_4(t *testing.T) {
	eachStore(t, stepUpSettings, func(t *testing.T, s *service, c *clock) {
		p := s.register(t)
		id := s.currentID(t, p.token)
		c.set(c.Now().Add(10 * time.Minute))
		earlier := p.token
		token, refresh := s.refreshed(t, p.refresh, 200)
		if !s.alive(t, earlier) {
			t.Error("a refresh revoked an earlier token")
		}
		reauthenticate := func(body any) response {
			return s.call(t, "POST", "/v1/sessions/current/reauthenticate", bearer(token), jsonBody(body))
		}
		reauthenticate(shape{"password": "wrong passphrase"}).problem(t, false, 403, "invalid_credentials")
		reauthenticate(shape{}).problem(t, false, 400, "invalid_request", "password")
		if !s.alive(t, token) {
			t.Error("a refused reauthentication revoked the token")
		}
		a := reauthenticate(shape{"password": password}).
			is(t, 200, shape{"access_token": aJWT, "token_type": "Bearer", "expires_in": 3600, "session": sessionShape(id, true)})
		fresh := a.text(t, "access_token")
		claims := claimsOf(t, fresh)
		if claims["sid"] != id || int64(claims["auth_time"].(float64)) != c.Now().Unix() {
			t.Errorf("reauthentication returned sid %v and auth_time %v", claims["sid"], claims["auth_time"])
		}
		if s.alive(t, token) {
			t.Error("the replaced token is accepted")
		}
		s.call(t, "GET", "/v1/users/me", bearer(token)).problem(t, false, 401, "invalid_token")
		if !s.alive(t, fresh) || !s.alive(t, earlier) {
			t.Error("reauthentication revoked another token than the one that it replaces")
		}
		s.call(t, "DELETE", "/v1/sessions?except=current", bearer(fresh)).want(t, 200)

		// A client that lost the reply refreshes, and its new token has the time of the password check.
		refreshed, _ := s.refreshed(t, refresh, 200)
		if got := int64(claimsOf(t, refreshed)["auth_time"].(float64)); got != c.Now().Unix() {
			t.Errorf("after a refresh, auth_time is %d, want %d", got, c.Now().Unix())
		}
	})
}

// Some clients announce a body with each request. These two routes once had none, and ignored it.
func TestClassicRoutes_IgnoreBodiesThatTheyDoNotKnow(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		for _, body := range []option{
			header("Content-Type", "application/json"), header("Content-Type", "application/x-www-form-urlencoded"),
			rawBody("text/plain", []byte("x")), jsonBody(shape{"username": "somebody"}), jsonBody(shape{}),
		} {
			p := s.register(t)
			s.call(t, "GET", "/user/logins/deletes/all", bearer(p.token), body).want(t, 200)
			p.token = s.login(t, p)
			s.call(t, "DELETE", "/deleteUser?username="+p.username, bearer(p.token), body).want(t, 200)
		}
		p := s.register(t)
		s.call(t, "DELETE", "/deleteUser?username="+p.username, bearer(p.token), rawBody("application/json", []byte("{"))).want(t, 400)
		s.call(t, "DELETE", "/deleteUser?username="+p.username, bearer(p.token), rawBody("application/json", make([]byte, 65<<10))).want(t, 413)
	})
}
