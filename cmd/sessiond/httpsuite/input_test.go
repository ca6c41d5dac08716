package httpsuite

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// A text that looks like a template, a format, an escape or markup comes back as it was sent.
func TestInput_IsDecodedOnceAndReturnedLiterally_ASVS_V1_1_1_V1_2_3_V1_3_7_V1_3_10(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		for _, text := range []string{
			`"\</script><b>`, "{{.Secret}}${7*7}#{1+1}<%= 1 %>", "%!s(int=1)%n%x%s%d", "%41%2541", "&lt;&#65;&amp;amp;", `\u0041\x41`, "a+b%20c", "' OR 1=1 --",
		} {
			a := s.call(t, "PATCH", "/v1/users/me", bearer(p.token), jsonBody(shape{"first_name": text})).want(t, 200)
			me := s.call(t, "GET", "/v1/users/me", bearer(p.token)).want(t, 200)
			if a.text(t, "first_name") != text || me.text(t, "first_name") != text {
				t.Errorf("%q came back in %s and %s", text, a.body, me.body)
			}
			s.call(t, "PUT", "/updateUser", bearer(p.token), formBody("username", p.username, "last_name", text)).want(t, 200)
			if got := s.call(t, "GET", "/findUser?username="+p.username, bearer(p.token)).want(t, 200).text(t, "last_name"); got != text {
				t.Errorf("%q in a form came back as %q", text, got)
			}
		}
		for body, want := range map[string]string{
			`{"first_name":"\u0025\u0034\u0031"}`: "%41", `{"first_name":"\\u0041"}`: `\u0041`, `{"first_name":"%2541"}`: "%2541",
		} {
			if got := s.call(t, "PATCH", "/v1/users/me", bearer(p.token), rawBody("application/json", []byte(body))).want(t, 200).text(t, "first_name"); got != want {
				t.Errorf("%s was read as %q, want %q", body, got, want)
			}
		}
		form := rawBody("application/x-www-form-urlencoded", []byte("username="+p.username+"&first_name=%2541"))
		s.call(t, "PUT", "/updateUser", bearer(p.token), form).want(t, 200)
		if got := s.call(t, "GET", "/v1/users/me", bearer(p.token)).want(t, 200).text(t, "first_name"); got != "%41" {
			t.Errorf("%%2541 in a form was read as %q, want %%41", got)
		}

		// Twice encoded, neither a path nor a name nor a token is what it would be when decoded twice.
		twice := func(text string) string {
			once := ""
			for _, b := range []byte(text) {
				once += fmt.Sprintf("%%%02x", b)
			}
			return url.PathEscape(once)
		}
		token := s.resetToken(t, p)
		s.call(t, "DELETE", "/v1/sessions/"+twice("current"), bearer(p.token)).want(t, 404)
		s.call(t, "GET", "/user/logins/delete/"+twice(s.currentID(t, p.token)), bearer(p.token)).want(t, 400)
		s.call(t, "GET", "/v1/sessions/%252e%252e", bearer(p.token)).want(t, 405)
		s.call(t, "GET", "/findUser?username="+twice(p.username), bearer(p.token)).want(t, 403)
		s.call(t, "GET", "/reset?resetPasswordToken="+twice(token)).want(t, 403)
		s.call(t, "GET", "/reset?resetPasswordToken="+token).want(t, 200)
		if !s.alive(t, p.token) {
			t.Error("a path that was encoded twice revoked the session")
		}
	})
}

// A client cannot choose the ids of its session, and each sign-in has ids and tokens of its own.
func TestSignIn_TakesNoIDsOfClient_ASVS_V7_2_2_V7_2_4(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		chosen := map[string]any{"sid": s.currentID(t, p.token), "jti": claimsOf(t, p.token)["jti"], "id": "chosen", "session_id": "chosen", "refresh_token": p.refresh, "token": p.token}
		seen := map[any]bool{}
		for range 3 {
			body := shape{"username": p.username, "password": password}
			cookies := ""
			for name, value := range chosen {
				body[name] = value
				cookies += fmt.Sprintf("%s=%v; ", name, value)
			}
			a := s.call(t, "POST", "/loginUser", jsonBody(body), bearer(p.token), header("Cookie", strings.TrimSuffix(cookies, "; ")), header("X-Auth-Session", "chosen")).want(t, 200)
			claims := claimsOf(t, a.text(t, "token"))
			for _, value := range []any{claims["sid"], claims["jti"], a.text(t, "token"), a.text(t, "refresh_token")} {
				for name, old := range chosen {
					if value == old {
						t.Errorf("the service took over the %s of the client", name)
					}
				}
				if seen[value] {
					t.Errorf("two sign-ins have the same %v", value)
				}
				seen[value] = true
			}
		}
	})
}
