package httpsuite

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// ownView returns the profile, the sessions and the login history that the API shows to a user.
func (s *service) ownView(t *testing.T, p person) string {
	t.Helper()
	var all string
	for _, path := range []string{"/v1/users/me", "/v1/sessions", "/v1/logins"} {
		all += string(s.call(t, "GET", path, bearer(p.token)).want(t, 200).body) + "\n"
	}
	return all
}

// A signed-in thief sends requests that name the victim by every spelling of the username and by
// session ids. The responses must not reveal whether the victim exists, and nothing may change for
// the victim.
func TestIsolation_UserCannotReadOrChangeAnotherUser_ASVS_V2_2_3_V8_2_2_V8_3_1_V15_3_7_V16_3_2(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		victim, thief := s.register(t), s.register(t)
		s.login(t, victim)
		victimID := s.currentID(t, victim.token)
		sub := claimsOf(t, victim.token)["sub"].(string)
		before := s.ownView(t, victim)

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
			if r.kind == admin { // TestAdmin_WantsRoleOrScope has more
				s.call(t, r.method, r.at(sub), bearer(thief.token)).problem(t, false, 403, "not_administrator")
				continue
			}
			if strings.Contains(r.params+" "+r.fields, "username") {
				reached++
				for _, spelling := range spellings {
					var a response
					body := map[string]any{"username": spelling, "password": goodPassword, "first_name": "Mallory", "email": "m" + thief.email}
					if r.params != "" {
						a = s.call(t, r.method, r.path, bearer(thief.token), func(q *http.Request) {
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
						a = s.call(t, r.method, r.path, bearer(thief.token), jsonBody(body))
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
					a := s.call(t, r.method, r.at(id), bearer(thief.token))
					if r.kind == classic {
						a.problem(t, true, 400, "session_not_found")
					} else {
						a.problem(t, false, 404, "session_not_found")
					}
				}
			}
		}
		// The log says who tried to act on whose session or account.
		named := false
		for line := range strings.Lines(s.logged(t)) {
			if strings.Contains(line, "another user") && !strings.Contains(line, "target") {
				t.Errorf("the log does not name the account that a refused request named: %s", line)
			}
			named = named || strings.Contains(line, "target") && strings.Contains(line, claimsOf(t, thief.token)["sub"].(string)) && strings.Contains(line, victimID)
		}
		if !named {
			t.Error("the log does not name the session that a refused request named")
		}
		if reached != 2*(4+1)+1 {
			t.Errorf("%d routes take a username or a session id, want 11", reached)
		}

		// The thief names two users in one request: the thief in the field that the service checks, and
		// the victim in another place.
		s.call(t, "DELETE", "/deleteUser?username="+thief.username+"&username="+name, bearer(thief.token)).problem(t, true, 400, "invalid_request", "username")
		s.call(t, "PUT", "/updateUser?username="+thief.username, bearer(thief.token), jsonBody(shape{"username": name, "first_name": "Mallory"})).
			problem(t, true, 403, "other_user")
		s.call(t, "DELETE", "/deleteUser?username="+name, bearer(thief.token), header("X-Http-Method-Override", "GET"), header("X-Username", name)).
			problem(t, true, 403, "other_user")

		// The thief's reset token must not reset the password of the victim.
		reset := s.resetToken(t, thief)
		s.call(t, "PUT", "/updatePasswordViaEmail", jsonBody(shape{"username": name, "password": goodPassword, "resetPasswordToken": reset})).
			problem(t, true, 403, "invalid_reset_token")
		s.call(t, "GET", "/reset?resetPasswordToken="+reset+"&username="+name).is(t, 200, shape{"username": thief.username, "message": aText})

		// Revoking all sessions of the thief must not revoke sessions of the victim.
		for _, request := range []struct {
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
			opts := []option{bearer(thief.token)}
			if request.method == "PUT" {
				opts = append(opts, credentials(thief.username, password))
			}
			s.call(t, request.method, request.path, opts...).want(t, request.status)
		}
		if after := s.ownView(t, victim); after != before {
			t.Errorf("the victim changed to\n%s\nbefore:\n%s", after, before)
		}
		s.refreshed(t, victim.refresh, 200)
		s.login(t, victim)
	})
}

func TestIsolation_ResponsesShowOnlyDataOfSignedInUser_ASVS_V8_2_2(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		a, b := s.register(t), s.register(t)
		s.call(t, "POST", "/loginUser", credentials(a.username, "wrong passphrase")).want(t, 403)
		for _, pair := range [][2]person{{a, b}, {b, a}} {
			own, other := pair[0], pair[1]
			for _, path := range []string{"/user/logins/show", "/v1/sessions", "/v1/logins", "/v1/users/me", "/v1/sessions/current", "/findUser?username=" + own.username} {
				body := string(s.call(t, "GET", path, bearer(own.token)).want(t, 200).body)
				for _, theirs := range []string{other.username, other.email, s.currentID(t, other.token), claimsOf(t, other.token)["sub"].(string)} {
					if strings.Contains(body, theirs) {
						t.Errorf("GET %s shows data of another user: %s", path, body)
					}
				}
			}
			if body := string(s.call(t, "GET", "/v1/logins", bearer(own.token)).body); strings.Contains(body, "failed") != (own == a) {
				t.Errorf("only the user whose login failed must have it in the history, got: %s", body)
			}
		}
	})
}

// A client must not gain rights, or act as another user, by adding fields such as "role" or
// "user_id" to a request.
// /v1 refuses unknown fields. The classic routes and OAuth ignore them: what a request does must not
// depend on them.
func TestIsolation_UnknownFieldsAreRefusedOrIgnored_ASVS_V8_2_3_V15_3_3(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		withBadInput(t, s, nil, func(t *testing.T, x *target) {
			sub := claimsOf(t, x.bystander.token)["sub"]
			own := x.ownView(t, x.sender)
			eachBodyRoute(func(r route, _, _ []string) {
				if r.kind == oauth {
					return // RFC 6749 section 3.2: OAuth endpoints ignore unknown parameters
				}
				for field, value := range map[string]any{
					"role": "admin", "is_admin": true, "user_id": sub, "id": sub, "sub": sub, "status": "active", "exp": 1 << 40,
					"password_hash": "$2a$04$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "password_version": 1, "email_verified": true,
					"email_verified_at": "2020-01-01T00:00:00Z", "token_gen": 0, "created_at": "2020-01-01T00:00:00Z",
				} {
					body := x.validBody(r, x.sender)
					if r.kind == v1 {
						body[field] = value
						r.wantBadRequest(t, "field "+field, x.send(t, r, x.sender.token, body), field)
						continue
					}
					// Without its last required field, the request changes nothing and its error tells that
					// the unknown field was ignored.
					_, required := names(r.fields)
					last := required[len(required)-1]
					delete(body, last)
					body[field] = value
					pairs := make([]string, 0, 2*len(body))
					for name, value := range body {
						pairs = append(pairs, name, fmt.Sprint(value))
					}
					r.wantBadRequest(t, "field "+field, x.send(t, r, x.sender.token, body), last)
					r.wantBadRequest(t, "form field "+field, x.call(t, r.method, r.path, formBody(pairs...), bearer(x.sender.token)), last)
				}
			})
			if after := x.ownView(t, x.sender); after != own {
				t.Errorf("unknown fields changed the sender:\n%s\nbefore:\n%s", after, own)
			}
			// A complete request with unknown fields does what it does without them.
			registered := registration(newName(), newName()+"@example.com", password)
			a := x.call(t, "POST", "/registerUser", withFields(registered, shape{"role": "admin", "roles": []string{"admin"}, "id": sub, "email_verified": true})).want(t, 200)
			if claims := claimsOf(t, a.text(t, "token")); claims["sub"] == sub {
				t.Error("the client chose the id of the account")
			}
			var me map[string]any
			if x.call(t, "GET", "/v1/users/me", bearer(a.text(t, "token"))).want(t, 200).into(t, &me); me["email_verified"] != false {
				t.Errorf("the client confirmed its own address: %v", me)
			}
			x.call(t, "PUT", "/updateUser", bearer(x.sender.token), jsonBody(shape{"username": x.sender.username, "user_id": sub, "password": "hijacked password"})).want(t, 200)
			x.login(t, x.sender)
		})
	})
}

// withFields adds members to the JSON body that base sends.
func withFields(base option, members shape) option {
	return func(r *http.Request) {
		base(r)
		body := map[string]any{}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			panic(err)
		}
		maps.Copy(body, members)
		jsonBody(body)(r)
	}
}
