package httpsuite

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// unharmed is what a victim can see of themselves.
func (s *service) unharmed(t *testing.T, p person) string {
	t.Helper()
	var all string
	for _, path := range []string{"/v1/users/me", "/v1/sessions", "/v1/logins"} {
		all += string(s.call(t, "GET", path, bearerOf(p.token)).want(t, 200).body) + "\n"
	}
	return all
}

// One user cannot act on another: by name in every way that a name can be
// spelt, or by the id of a session. The answer does not even tell whether there
// is such a user, and nothing of the victim's changes.
func TestAnotherUsersThings(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		victim, thief := s.register(t), s.register(t)
		s.login(t, victim)
		victimID := s.currentID(t, victim.token)
		sub := claimsOf(t, victim.token)["sub"].(string)
		before := s.unharmed(t, victim)

		name := victim.username
		spellings := []string{
			name, strings.ToUpper(name), " " + name, name + " ", name + "\x00", name + "\u200b", "\ufeff" + name, "\u202e" + name,
			victim.email, sub, victimID, name + "%", "%", "*", "' OR '1'='1", name + "," + thief.username, "me", "",
		}
		reached := 0
		for _, r := range everyRoute() {
			if !r.protected {
				continue
			}
			if strings.Contains(r.params+" "+r.fields, "username") {
				reached++
				for _, spelling := range spellings {
					var a answer
					body := map[string]any{"username": spelling, "password": goodPassword, "first_name": "Mallory", "email": "m" + thief.email}
					if r.params != "" {
						a = s.call(t, r.method, r.path, bearerOf(thief.token), func(q *http.Request) {
							values := q.URL.Query()
							values.Set("username", spelling)
							q.URL.RawQuery = values.Encode()
						})
					} else {
						fields, _ := names(r.fields)
						for field := range body {
							if !slices.Contains(fields, field) {
								delete(body, field)
							}
						}
						a = s.call(t, r.method, r.path, bearerOf(thief.token), jsonBody(body))
					}
					if spelling == "" {
						a.problem(t, true, 400, "invalid_request", "username")
						continue
					}
					a.problem(t, true, 403, "other_user")
				}
			}
			if strings.Contains(r.path, "{") {
				reached++
				for _, id := range []string{victimID, sub, claimsOf(t, victim.token)["jti"].(string), name} {
					a := s.call(t, r.method, r.at(id), bearerOf(thief.token))
					if r.kind == classic {
						a.problem(t, true, 400, "session_not_found")
					} else {
						a.problem(t, false, 404, "session_not_found")
					}
				}
			}
		}
		if reached != 2*(4+1)+1 {
			t.Errorf("%d routes take a name or an id; is a new one tried here?", reached)
		}

		// A name given twice, or in two places, is nobody's.
		s.call(t, "DELETE", "/deleteUser?username="+thief.username+"&username="+name, bearerOf(thief.token)).problem(t, true, 400, "invalid_request", "username")
		s.call(t, "PUT", "/updateUser?username="+thief.username, bearerOf(thief.token), jsonBody(shape{"username": name, "first_name": "Mallory"})).
			problem(t, true, 403, "other_user")
		s.call(t, "DELETE", "/deleteUser?username="+name, bearerOf(thief.token), header("X-Http-Method-Override", "GET"), header("X-Username", name)).
			problem(t, true, 403, "other_user")

		// A reset token is its owner's, and the owner of a session's password opens it.
		reset := s.resetToken(t, thief)
		s.call(t, "PUT", "/updatePasswordViaEmail", jsonBody(shape{"username": name, "password": goodPassword, "resetPasswordToken": reset})).
			problem(t, true, 403, "invalid_reset_token")
		s.call(t, "GET", "/reset?resetPasswordToken="+reset+"&username="+name).is(t, 200, shape{"username": thief.username, "message": aText})

		// What ends all of the thief's ends nothing of the victim's.
		for _, end := range []struct {
			method, path string
			status       int
		}{
			{"GET", "/user/logins/delete/all/not-current", 200},
			{"DELETE", "/v1/sessions?except=current", 200},
			{"GET", "/user/logins/deletes/all", 200},
			{"DELETE", "/v1/sessions", 200},
			{"PUT", "/updatePassword", 200},
			{"DELETE", "/deleteUser?username=" + thief.username, 200},
		} {
			thief.token = s.login(t, thief)
			opts := []option{bearerOf(thief.token)}
			if end.method == "PUT" {
				opts = append(opts, jsonBody(shape{"username": thief.username, "password": password}))
			}
			s.call(t, end.method, end.path, opts...).want(t, end.status)
		}
		if after := s.unharmed(t, victim); after != before {
			t.Errorf("the victim sees\n%s\nand saw\n%s", after, before)
		}
		s.refreshed(t, victim.refresh, 200)
		s.login(t, victim)
	})
}

// Lists and reads show one's own and nothing else.
func TestListsShowOnesOwn(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		a, b := s.register(t), s.register(t)
		s.call(t, "POST", "/loginUser", jsonBody(shape{"username": a.username, "password": "wrong passphrase"})).want(t, 403)
		for _, pair := range [][2]person{{a, b}, {b, a}} {
			own, other := pair[0], pair[1]
			for _, path := range []string{"/user/logins/show", "/v1/sessions", "/v1/logins", "/v1/users/me", "/v1/sessions/current", "/findUser?username=" + own.username} {
				body := string(s.call(t, "GET", path, bearerOf(own.token)).want(t, 200).body)
				for _, theirs := range []string{other.username, other.email, s.currentID(t, other.token), claimsOf(t, other.token)["sub"].(string)} {
					if strings.Contains(body, theirs) {
						t.Errorf("GET %s shows another user's: %s", path, body)
					}
				}
			}
			if body := string(s.call(t, "GET", "/v1/logins", bearerOf(own.token)).body); strings.Contains(body, "failed") != (own == a) {
				t.Errorf("a failed login is in the wrong history: %s", body)
			}
		}
	})
}

// Nobody becomes more, or somebody else, by a field that a request does not have.
func TestFieldsThatAreNotTheCallers(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		shownBadInput(t, s, nil, func(t *testing.T, x *target) {
			sub := claimsOf(t, x.bystander.token)["sub"]
			eachBodyRoute(func(r route, _, _ []string) {
				if r.kind == oauth {
					return // RFC 6749 section 3.2: unknown parameters are skipped
				}
				for field, value := range map[string]any{
					"role": "admin", "is_admin": true, "user_id": sub, "id": sub, "sub": sub, "status": "active", "exp": 1 << 40,
					"password_hash": "$2a$04$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "password_version": 1, "email_verified": true,
					"email_verified_at": "2020-01-01T00:00:00Z", "token_gen": 0, "created_at": "2020-01-01T00:00:00Z",
				} {
					body := x.good(r, x.doer)
					body[field] = value
					r.refused(t, "field "+field, x.send(t, r, x.doer.token, body), field)
					if r.kind != classic {
						continue
					}
					var pairs []string
					for name, value := range body {
						pairs = append(pairs, name, fmt.Sprint(value))
					}
					r.refused(t, "form field "+field, x.call(t, r.method, r.path, formBody(pairs...), bearerOf(x.doer.token)), field)
				}
			})
		})
	})
}

// ---- secrets -----------------------------------------------------------------

// witness asks the service and remembers what it answered.
type witness struct {
	*service
	answers []witnessed
}

type witnessed struct {
	what string
	answer
}

func (w *witness) ask(t *testing.T, method, path string, opts ...option) answer {
	t.Helper()
	a := w.call(t, method, path, opts...)
	w.answers = append(w.answers, witnessed{method + " " + path, a})
	return a
}

// issues tells whether an answer may hold tokens: it is that of a login or a
// refresh, or of a reset, which hands out a device token.
func (w *witnessed) issues() bool {
	if w.status != 200 && w.status != 201 {
		return false
	}
	for _, route := range []string{"PUT /updatePasswordViaEmail", "POST /registerUser", "POST /loginUser", "POST /v1/sessions", "POST /oauth/token", "POST /v1/sessions/current/reauthenticate"} {
		if w.what == route {
			return true
		}
	}
	return false
}

var hashed = regexp.MustCompile(`\$2[abxy]\$|\$sessiond\$|[Pp]assword_?[Hh]ash`)

// A whole life, with mistakes: no password, hash, token or mailed secret is in
// any log line, nor in any answer but the one that hands it out.
func TestSecretsStaySecret(t *testing.T) {
	path, client := clientsFile(t)
	eachMode(t, func(t *testing.T, s *service) {
		w := &witness{service: s}
		secrets := map[string]string{} // what it is → itself
		keep := func(what, secret string) string {
			if len(secret) < 7 {
				t.Fatalf("%s is %q: too short to be looked for", what, secret)
			}
			secrets[what] = secret
			return secret
		}
		tokens := func(what string, a answer) (access, refresh string) {
			access, refresh = a.text(t, "token")+a.text(t, "access_token"), a.text(t, "refresh_token")
			keep(what+": access token", access)
			keep(what+": its signature", access[strings.LastIndexByte(access, '.')+1:])
			if refresh != "" {
				keep(what+": refresh token", refresh)
			}
			if device := a.header.Get("X-Device-Token"); device != "" {
				keep(what+": device token", device)
			}
			return access, refresh
		}
		name := freshName()
		email := name + "@example.com"
		first := keep("the password", "Canary1-first passphrase")
		wrong := keep("a wrong password", "Canary2-wrong passphrase")
		second := keep("the second password", "Canary3-second passphrase")
		third := keep("the third password", "Canary4-third passphrase")
		short := keep("a short password", "Qz7!kWp")
		common := keep("a common password", "qwertyuiop")
		post := func(path string, body any, opts ...option) answer {
			return w.ask(t, "POST", path, append([]option{jsonBody(body)}, opts...)...)
		}

		access, refresh := tokens("registering", post("/registerUser", shape{"username": name, "email": email, "password": first}).want(t, 200))
		post("/registerUser", shape{"username": name, "email": email, "password": wrong}).want(t, 403)
		post("/registerUser", shape{"username": name, "email": email, "password": short}).want(t, 400)
		post("/registerUser", shape{"username": name, "email": email, "password": common}).want(t, 400)
		post("/v1/users", shape{"username": name + "2", "email": email, "password": second}).want(t, 202)
		post("/v1/users", shape{"username": name, "email": "x" + email, "password": second}).want(t, 409)
		login, loginRefresh := tokens("signing in", post("/loginUser", shape{"username": name, "password": first}).want(t, 200))
		tokens("signing in on /v1", post("/v1/sessions", shape{"login": email, "password": first}).want(t, 201))
		tokens("proving oneself again", post("/v1/sessions/current/reauthenticate", shape{"password": first}, bearerOf(access)).want(t, 200))

		// Wrong ones, and right ones where they do not belong.
		device := header("X-Device-Token", secrets["signing in: device token"])
		post("/loginUser", shape{"username": name, "password": wrong}, device).want(t, 403)
		post("/loginUser", shape{"username": secrets["signing in: device token"], "password": wrong}, device).want(t, 401)
		post("/loginUser", shape{"username": name, "password": wrong}, header("Cookie", "sessiond_device="+secrets["signing in: device token"])).want(t, 403)
		post("/loginUser", shape{"username": name, "password": wrong}).want(t, 403)
		post("/loginUser", shape{"username": first, "password": name}).want(t, 401)
		post("/v1/sessions", shape{"login": first, "password": wrong}).want(t, 401)
		post("/v1/sessions", shape{"login": first + "@example.com", "password": wrong}).want(t, 401)
		post("/v1/sessions/current/reauthenticate", shape{"password": wrong}, bearerOf(access)).want(t, 403)
		post("/v1/password-resets", shape{"email": first + "@example.com"}).want(t, 400)
		post("/forgotPassword", shape{"email": "canary@" + first}).want(t, 400)
		w.ask(t, "POST", "/loginUser?username="+name+"&password=Canary1-first+passphrase", formBody("username", name, "password", wrong)).want(t, 403)
		for _, body := range []string{
			`{"username":"` + name + `","password":"` + first + `"`, `{"username":"` + name + `","password":["` + first + `"]}`,
			`{"username":"` + name + `","password":{"` + first + `":1}}`, `{"username":"` + name + `","password":"` + first + `","password":"` + wrong + `"}`,
			`{"username":"` + name + `","password":"` + first + "\xff\"}", `{"username":"` + name + `","passwort":"` + first + `"}`,
			`{"password":"` + first + `"} trailing ` + first, first, `"` + first + `"`, `["` + first + `"]`, `{"` + first + `":"` + name + `"}`,
			`{"password":"` + first + `","note":"a=b"}`, first + "=" + first,
		} {
			for _, path := range []string{"/registerUser", "/loginUser", "/v1/sessions", "/v1/users", "/v1/password-resets/complete"} {
				w.ask(t, "POST", path, rawBody("application/json", []byte(body))).want(t, 400)
				w.ask(t, "POST", path, rawBody("text/plain", []byte(body))).want(t, 415)
				// What curl -d says of its body when nobody tells it otherwise.
				w.ask(t, "POST", path, rawBody("application/x-www-form-urlencoded", []byte(body)))
			}
			w.ask(t, "POST", "/oauth/token", rawBody("application/x-www-form-urlencoded", []byte(body)))
		}
		for _, authorization := range []string{first, "Basic " + first, "Bearer " + first, "Bearer " + refresh, access, "Bearer " + access + "x", "Bearer " + access[:len(access)-2]} {
			w.ask(t, "GET", "/findUser?username="+name, header("Authorization", authorization)).want(t, 401)
		}
		for _, secret := range []string{access, refresh} {
			w.ask(t, "GET", "/user/logins/delete/"+secret, bearerOf(login)).want(t, 400)
			w.ask(t, "DELETE", "/v1/sessions/"+secret, bearerOf(login)).want(t, 404)
			w.ask(t, "GET", "/v1/sessions?cursor="+secret, bearerOf(login))
			w.ask(t, "DELETE", "/v1/sessions?token="+secret, bearerOf(login)).want(t, 400)
			w.ask(t, "DELETE", "/v1/sessions?"+secret, bearerOf(login)).want(t, 400)
			w.ask(t, "GET", "/"+secret).want(t, 404)
			w.ask(t, "GET", "/reset?resetPasswordToken="+secret).want(t, 403)
			w.ask(t, "GET", "/loginUser?token="+secret).want(t, 405)
			w.ask(t, "POST", "/oauth/token", formBody("grant_type", secret)).want(t, 400)
			w.ask(t, "POST", "/oauth/token", formBody("grant_type", "refresh_token", "refresh_token", secret+"x")).want(t, 400)
			w.ask(t, "POST", "/oauth/token", jsonBody(shape{"grant_type": "refresh_token", "refresh_token": secret})).want(t, 415)
			w.ask(t, "POST", "/oauth/introspect", formBody("token", secret), client).want(t, 200)
			w.ask(t, "POST", "/oauth/introspect", formBody("token", secret), func(r *http.Request) { r.SetBasicAuth("gateway", secret) }).want(t, 401)
		}

		// Reading, changing, losing and resetting.
		w.ask(t, "GET", "/findUser?username="+name, bearerOf(access)).want(t, 200)
		for _, path := range []string{"/user/logins/show", "/v1/users/me", "/v1/sessions", "/v1/sessions/current", "/v1/logins"} {
			w.ask(t, "GET", path, bearerOf(access)).want(t, 200)
		}
		w.ask(t, "PUT", "/updatePassword", jsonBody(shape{"username": name, "password": second, "current_password": wrong}), bearerOf(access)).want(t, 403)
		w.ask(t, "PUT", "/updatePassword", jsonBody(shape{"username": name, "password": short}), bearerOf(access)).want(t, 400)
		w.ask(t, "PUT", "/v1/users/me/password", jsonBody(shape{"current_password": first, "new_password": second}), bearerOf(access)).want(t, 204)
		w.ask(t, "GET", "/v1/sessions/current", bearerOf(login)).want(t, 401)
		w.ask(t, "POST", "/oauth/token", formBody("grant_type", "refresh_token", "refresh_token", loginRefresh)).want(t, 400)

		post("/forgotPassword", shape{"email": email}).want(t, 200)
		reset := keep("the reset token", resetLink.FindStringSubmatch(s.awaitMail(t, email, "resetPasswordToken=").Text)[1])
		w.ask(t, "GET", "/reset?resetPasswordToken="+reset).want(t, 200)
		w.ask(t, "POST", "/reset?resetPasswordToken="+reset).want(t, 405)
		post("/v1/password-resets/check", shape{"token": reset}).want(t, 204)
		w.ask(t, "PUT", "/updatePasswordViaEmail", jsonBody(shape{"username": name, "password": short, "resetPasswordToken": reset})).want(t, 400)
		w.ask(t, "PUT", "/updatePasswordViaEmail", jsonBody(shape{"username": name, "password": third, "resetPasswordToken": reset})).want(t, 200)
		w.ask(t, "PUT", "/updatePasswordViaEmail", jsonBody(shape{"username": name, "password": third, "resetPasswordToken": reset})).want(t, 403)
		post("/v1/password-resets/complete", shape{"token": reset, "password": third}).want(t, 404)

		access, refresh = tokens("signing in after the reset", post("/loginUser", shape{"username": name, "password": third}).want(t, 200))
		_, newer := tokens("refreshing", w.ask(t, "POST", "/oauth/token", formBody("grant_type", "refresh_token", "refresh_token", refresh)).want(t, 200))
		tokens("refreshing again", w.ask(t, "POST", "/oauth/token", formBody("grant_type", "refresh_token", "refresh_token", newer)).want(t, 200))
		w.ask(t, "POST", "/oauth/token", formBody("grant_type", "refresh_token", "refresh_token", refresh)).want(t, 400) // theft
		w.ask(t, "GET", "/v1/users/me", bearerOf(access)).want(t, 401)
		access, refresh = tokens("the last time", post("/loginUser", shape{"username": name, "password": third}).want(t, 200))
		w.ask(t, "POST", "/oauth/revoke", formBody("token", access)).want(t, 200)
		access, _ = tokens("refreshing at last", w.ask(t, "POST", "/oauth/token", formBody("grant_type", "refresh_token", "refresh_token", refresh)).want(t, 200))
		w.ask(t, "POST", "/oauth/revoke", formBody("token", "x"+refresh)).want(t, 200)
		w.ask(t, "DELETE", "/deleteUser?username="+name, bearerOf(access)).want(t, 200)
		s.awaitMail(t, email, "was deleted")

		for _, a := range w.answers {
			text := string(a.body) + fmt.Sprint(a.header)
			if hashed.MatchString(text) {
				t.Errorf("%.60s (%d) shows a hash: %s", a.what, a.status, a.body)
			}
			for what, secret := range secrets {
				if isPassword := strings.Contains(what, "password"); (isPassword || !a.issues()) && strings.Contains(text, secret) {
					t.Errorf("%.60s (%d) shows %s: %s", a.what, a.status, what, a.body)
				}
			}
		}
		logs := s.logged(t)
		for line := range strings.Lines(logs) {
			if hashed.MatchString(line) {
				t.Errorf("a hash in the log: %s", line)
			}
			for what, secret := range secrets {
				if strings.Contains(line, secret) {
					t.Errorf("%s in the log: %s", what, line)
				}
			}
		}
		if strings.Count(logs, "\n") < len(w.answers) {
			t.Errorf("%d lines in the log of %d requests: is it the right one?", strings.Count(logs, "\n"), len(w.answers))
		}
		checkLog(t, s)
	}, "LOG_LEVEL=debug", "CLIENTS_FILE="+path)
}

// checkLog fails the test unless every whole line of the log is one record, with
// its time in UTC: in serve JSON, in dev text.
func checkLog(t *testing.T, s *service) {
	t.Helper()
	lines := strings.Split(s.logs.String(), "\n")
	for _, line := range lines[:len(lines)-1] {
		var at string
		if s.prefix == "" { // dev
			if m := regexp.MustCompile(`^time=(\S+) level=(DEBUG|INFO|WARN|ERROR) msg=`).FindStringSubmatch(line); m != nil {
				at = m[1]
			}
		} else {
			var record struct{ Time, Level, Msg string }
			if err := json.Unmarshal([]byte(line), &record); err == nil && record.Level != "" && record.Msg != "" {
				at = record.Time
			}
		}
		if when, err := time.Parse(time.RFC3339Nano, at); err != nil || !strings.HasSuffix(at, "Z") || time.Since(when).Abs() > time.Hour {
			t.Errorf("not a record with a time in UTC: %q", line)
		}
		if i := strings.IndexFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f || r == '\u202e' }); i >= 0 {
			t.Errorf("a control character in the log: %q", line)
		}
	}
}

// Whatever a client says of itself, a log line stays one line that we wrote.
func TestLogLinesCannotBeForged(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		forged := []string{
			"x\r\n" + `{"time":"2020-01-01T00:00:00Z","level":"ERROR","msg":"forged"}` + "\r\n",
			"x\ntime=2020-01-01T00:00:00Z level=ERROR msg=forged\n", "\x1b[2K\x1b[1Aforged", `x" level=ERROR msg="forged`, "\u2028forged\u0085forged\u202e",
		}
		for _, text := range forged {
			s.call(t, "POST", "/loginUser", jsonBody(shape{"username": text, "password": text}))
			s.call(t, "POST", "/registerUser", jsonBody(shape{"username": text, "email": text, "password": password})).want(t, 400)
			s.call(t, "POST", "/loginUser", jsonBody(shape{text: "x"})).want(t, 400)
			s.call(t, "POST", "/loginUser", formBody(text, "x")).want(t, 400)
			s.call(t, "GET", "/"+strings.Trim(fmt.Sprintf("%q", []byte(text)), "[]"))
			escaped := ""
			for _, b := range []byte(text) {
				escaped += fmt.Sprintf("%%%02x", b)
			}
			s.call(t, "GET", "/"+escaped).want(t, 404)
			s.call(t, "GET", "/user/logins/delete/"+escaped, bearerOf(p.token)).want(t, 400)
			plain := strings.Map(func(r rune) rune {
				if r < ' ' {
					return ' '
				}
				return r
			}, text)
			s.call(t, "POST", "/loginUser", jsonBody(shape{"username": p.username, "password": password}),
				header("User-Agent", plain), header("X-Request-Id", plain), header("X-Forwarded-For", plain), header("Referer", plain)).want(t, 200)
			s.call(t, "FORGED", "/loginUser", header("Origin", plain)).want(t, 405)
		}
		for line := range strings.Lines(s.logged(t)) {
			if strings.HasPrefix(line, `{"time":"2020`) || strings.HasPrefix(line, "time=2020") || strings.Contains(line, `level=ERROR`) || strings.Contains(line, `"level":"ERROR"`) {
				t.Errorf("a forged line: %s", line)
			}
		}
		checkLog(t, s)
	})
}
