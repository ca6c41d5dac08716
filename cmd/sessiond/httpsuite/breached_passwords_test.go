package httpsuite

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// leaked is a password that breachService reports as breached.
const leaked = "leaked horse battery"

// breachService starts a server with the API of Have I Been Pwned. The server knows one breached
// password, the constant `leaked`. While `away` is true, the server answers 502.
func breachService(t *testing.T) (url string, away *atomic.Bool) {
	t.Helper()
	sum := sha1.Sum([]byte(leaked))
	hash := strings.ToUpper(hex.EncodeToString(sum[:]))
	away = new(atomic.Bool)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		fmt.Fprint(w, "0018A45C4D1DEF81644B54AB7F969B88D65:0\r\n")
		if strings.HasSuffix(r.URL.Path, "/"+hash[:5]) {
			fmt.Fprint(w, hash[5:]+":7\r\n")
		}
	}))
	t.Cleanup(server.Close)
	return server.URL + "/range/", away
}

// Every route that sets a password refuses a breached password, a common one, and one that is made of the
// name of the service. While the server that knows
// breached passwords is down, the setting BREACHED_POLICY says whether new passwords are allowed or
// refused.
func TestBreachedPassword_IsRefusedByEveryRouteThatSetsPassword_ASVS_V6_2_4_V6_2_11_V6_2_12(t *testing.T) {
	for _, policy := range []string{"allow", "refuse"} {
		t.Run("with BREACHED_POLICY="+policy, func(t *testing.T) {
			url, away := breachService(t)
			eachMode(t, func(t *testing.T, s *service) {
				away.Store(false)
				p := s.register(t)
				token := s.resetToken(t, p)
				signedIn := bearer(s.login(t, p))
				routes := []struct {
					method, path, field string
					ok                  int
					body                func(password string) shape
				}{
					{"POST", "/registerUser", "password", 200, func(password string) shape {
						return shape{"username": "a" + p.username, "email": "a" + p.email, "password": password}
					}},
					{"POST", "/v1/users", "password", 202, func(password string) shape {
						return shape{"username": "b" + p.username, "email": "b" + p.email, "password": password}
					}},
					{"POST", "/v1/password-resets/complete", "password", 204, func(password string) shape {
						return shape{"token": token, "password": password}
					}},
					{"PUT", "/v1/users/me/password", "new_password", 204, func(next string) shape {
						return shape{"current_password": password, "new_password": next}
					}},
					{"PUT", "/updatePassword", "password", 200, func(password string) shape {
						return shape{"username": p.username, "password": password}
					}},
				}
				set := func(i int, password string) response {
					r := routes[i]
					return s.call(t, r.method, r.path, signedIn, jsonBody(r.body(password)))
				}
				for i, r := range routes {
					for refused, code := range map[string]string{leaked: "breached", "password1": "too_common", "Sessiond-26": "too_similar"} {
						a := set(i, refused).want(t, 400)
						var body struct {
							Errors []struct{ Field, Code string }
						}
						if a.into(t, &body); len(body.Errors) != 1 || body.Errors[0].Field != r.field || body.Errors[0].Code != code {
							t.Errorf("%s: got %s, want the error %s for %s", r.path, a.body, code, r.field)
						}
					}
				}
				away.Store(true)
				if policy == "refuse" {
					for i, r := range routes {
						if a := set(i, goodPassword).want(t, 503); a.text(t, "code") != "unavailable" || a.header.Get("Retry-After") == "" {
							t.Errorf("%s: got %s, want code unavailable and Retry-After", r.path, a.body)
						}
					}
					if signedIn := s.login(t, p); !s.alive(t, signedIn) { // the refused requests must not have changed the password
						t.Error("the access token of a login with the old password is refused")
					}
					away.Store(false)
				}
				for i := range routes {
					if i == 3 { // the password reset before this request revoked every session, so sign in again
						again := person{username: p.username}
						signedIn = bearer(s.loginWith(t, again, goodPassword))
						set := jsonBody(shape{"current_password": goodPassword, "new_password": password})
						s.call(t, "PUT", routes[i].path, signedIn, set).want(t, routes[i].ok)
						continue
					}
					set(i, goodPassword).want(t, routes[i].ok)
				}
				log := s.logged(t)
				if warned := strings.Contains(log, "not checked for breaches"); warned != (policy == "allow") {
					t.Errorf("the log has a warning about passwords that were not checked: %t", warned)
				}
				sum := sha1.Sum([]byte(goodPassword))
				for _, secret := range []string{leaked, goodPassword, strings.ToUpper(hex.EncodeToString(sum[:])[:5])} {
					if strings.Contains(log, secret) {
						t.Errorf("the log contains %q", secret)
					}
				}
			}, "BREACHED_URL="+url, "BREACHED_POLICY="+policy, "BCRYPT_COST=10", "LIMITS=off")
		})
	}
}

// loginWith signs the person in with this password and returns the access token.
func (s *service) loginWith(t testing.TB, p person, password string) string {
	t.Helper()
	return s.call(t, "POST", "/loginUser", credentials(p.username, password)).want(t, 200).text(t, "token")
}
