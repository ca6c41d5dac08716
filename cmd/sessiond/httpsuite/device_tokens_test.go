package httpsuite

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
)

// entryLength is the length, in bytes, of one entry of a device token. If several users have signed
// in on a device, its token has an entry for each of them.
const entryLength = 72

// deviceID returns the device id in the first entry of a device token.
func deviceID(t testing.TB, token string) string {
	t.Helper()
	if len(token) == 0 || len(token)%entryLength != 0 {
		t.Fatalf("%q: want a device token", token)
	}
	return token[8:29]
}

// browser keeps cookies as browsers do.
type browser struct {
	*service
	jar *cookiejar.Jar
	at  *url.URL // the URL of the service, for which the browser keeps cookies
}

func (s *service) newBrowser(t testing.TB) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{s, jar, &url.URL{Scheme: "https", Host: "id.example", Path: "/"}}
}

// post sends a request with the browser's cookies, and keeps the cookies of the response.
func (b *browser) post(t testing.TB, method, path string, body shape) response {
	t.Helper()
	a := b.call(t, method, path, jsonBody(body), func(r *http.Request) {
		for _, c := range b.jar.Cookies(b.at) {
			r.AddCookie(c)
		}
	})
	b.jar.SetCookies(b.at, (&http.Response{Header: a.header}).Cookies())
	return a
}

// device returns the device token in the header X-Device-Token of a response. It fails the test
// unless the response also sets a cookie with this name and the same token.
func (a response) device(t testing.TB, cookie string) string {
	t.Helper()
	lines := a.header.Values("Set-Cookie")
	if len(lines) != 1 {
		t.Fatalf("Set-Cookie is %q, want one", lines)
	}
	token := a.header.Get("X-Device-Token")
	want := fmt.Sprintf("%s=%s; Path=/; Max-Age=31536000; HttpOnly; ", cookie, token)
	if strings.HasPrefix(cookie, "__Host-") {
		want += "Secure; "
	}
	if want += "SameSite=Lax"; lines[0] != want {
		t.Errorf("Set-Cookie is %s\nwant          %s", lines[0], want)
	}
	deviceID(t, token)
	return token
}

// deviceCookie returns the name of the cookie with the device token. In sessiond dev the name has
// no prefix __Host-, because browsers refuse that prefix without TLS.
func (s *service) deviceCookie() string {
	if s.prefix == "" {
		return "sessiond_device"
	}
	return "__Host-sessiond_device"
}

func TestDeviceToken_IdentifiesDeviceAtNextLogin(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) { testDeviceTokens(t, s, s.deviceCookie()) })
	t.Run("against sessiond serve without TLS", func(t *testing.T) {
		testDeviceTokens(t, startServe(t, 1, "PUBLIC_URL=http://127.0.0.1"), "sessiond_device")
	})
}

func testDeviceTokens(t *testing.T, s *service, cookie string) {
	p := s.register(t)
	name, email := p.username, p.email
	classic, v1 := shape{"username": name, "password": password}, shape{"login": email, "password": password}
	home := s.newBrowser(t)
	if a := home.post(t, "POST", "/loginUser", classic).want(t, 200); a.header.Get("Set-Cookie") != "" || a.header.Get("X-Device-Token") != "" {
		t.Errorf("a login with an unconfirmed email address returned a device token: %v", a.header)
	}
	id := deviceID(t, home.post(t, "PUT", "/updatePasswordViaEmail", shape{
		"username": name, "password": password, "resetPasswordToken": s.resetToken(t, p),
	}).want(t, 200).device(t, cookie))

	// The service recognises the device token in the cookie and in the header, and returns a new
	// one.
	for _, r := range []struct {
		path   string
		body   shape
		status int
	}{{"/loginUser", classic, 200}, {"/api/v1/loginUser", classic, 200}, {"/v1/sessions", v1, 201}} {
		token := home.post(t, "POST", r.path, r.body).want(t, r.status).device(t, cookie)
		if deviceID(t, token) != id {
			t.Errorf("POST %s: with the cookie, got another device id", r.path)
		}
		a := s.call(t, "POST", r.path, jsonBody(r.body), header("X-Device-Token", token), header("Cookie", cookie+"=garbage")).want(t, r.status)
		if deviceID(t, a.device(t, cookie)) != id {
			t.Errorf("POST %s: with the header, got another device id", r.path)
		}
		if a := s.call(t, "POST", r.path, jsonBody(r.body)).want(t, r.status); deviceID(t, a.device(t, cookie)) == id {
			t.Errorf("POST %s: without a token, got the same device id", r.path)
		}
		a = s.call(t, "POST", r.path, jsonBody(r.body), header("X-Device-Token", "B"+token[1:])).want(t, r.status)
		if fresh := a.device(t, cookie); len(fresh) > entryLength || deviceID(t, fresh) == id {
			t.Errorf("POST %s: a token of an unknown version was kept: %s", r.path, fresh)
		}
	}

	// A request that does not sign the user in must neither return a device token nor remove the
	// cookie.
	held := home.jar.Cookies(home.at)
	access := home.post(t, "POST", "/loginUser", classic).want(t, 200).text(t, "token")
	for what, a := range map[string]response{
		"a wrong password":        home.post(t, "POST", "/loginUser", shape{"username": name, "password": password + "x"}).want(t, 403),
		"a wrong password on /v1": home.post(t, "POST", "/v1/sessions", shape{"login": email, "password": password + "x"}).want(t, 401),
		"an unknown username":     home.post(t, "POST", "/loginUser", shape{"username": name + "x", "password": password}).want(t, 401),
		"a taken username":        home.post(t, "POST", "/registerUser", shape{"username": name, "email": email, "password": password}).want(t, 403),
		"an invalid reset token":  home.post(t, "POST", "/v1/password-resets/complete", shape{"token": "x", "password": password}).want(t, 404),
		"a logout":                s.call(t, "DELETE", "/logout", bearer(access), header("X-Device-Token", held[0].Value)).want(t, 200),
		"a device token as bearer token": s.call(t, "GET", "/user/logins/show", bearer(held[0].Value),
			header("Cookie", cookie+"="+held[0].Value)).want(t, 401),
		"a device token alone": s.call(t, "GET", "/user/logins/deletes/all", header("X-Device-Token", held[0].Value),
			header("Cookie", cookie+"="+held[0].Value)).want(t, 401),
	} {
		if a.header.Get("Set-Cookie") != "" || a.header.Get("X-Device-Token") != "" {
			t.Errorf("%s returned a device token: %v", what, a.header)
		}
		if strings.Contains(string(a.body), held[0].Value[:25]) {
			t.Errorf("%s shows the device token in its body: %s", what, a.body)
		}
	}
	if deviceID(t, home.post(t, "POST", "/loginUser", classic).want(t, 200).device(t, cookie)) != id {
		t.Error("after a logout, got another device id")
	}
}

// While an attacker guesses passwords, the rate limits slow down logins from unknown devices. The
// owner can still sign in after a password reset by mail, because the device that completed the
// reset gets a device token.
func TestDeviceToken_IsIssuedByPasswordReset(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		third := "a third passphrase"
		complete := func(method, path string, body shape, status int) string {
			t.Helper()
			away := s.newBrowser(t)
			a := away.post(t, method, path, body).want(t, status)
			id := deviceID(t, a.header.Get("X-Device-Token"))
			again := away.post(t, "POST", "/loginUser", shape{"username": p.username, "password": body["password"]}).want(t, 200)
			if deviceID(t, again.header.Get("X-Device-Token")) != id {
				t.Errorf("after %s %s, a login does not recognise the device", method, path)
			}
			return id
		}
		first := complete("PUT", "/updatePasswordViaEmail", shape{"username": p.username, "password": third, "resetPasswordToken": s.resetToken(t, p)}, 200)
		second := complete("POST", "/v1/password-resets/complete", shape{"token": s.resetToken(t, p), "password": third + "!"}, 204)
		if first == second {
			t.Error("two devices got the same id")
		}
	})
}

func TestDeviceToken_IdentifiesDeviceForBothUsersOfOneBrowser(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		people := []person{s.confirmed(t), s.confirmed(t)}
		shared := s.newBrowser(t)
		ids := map[string]string{}
		for round := range 3 {
			for _, p := range people {
				a := shared.post(t, "POST", "/loginUser", shape{"username": p.username, "password": password}).want(t, 200)
				id := deviceID(t, a.device(t, s.deviceCookie()))
				if round > 0 && ids[p.username] != id {
					t.Errorf("round %d: after the login of the other user, %s has another device id", round, p.username)
				}
				ids[p.username] = id
			}
		}
		if ids[people[0].username] == ids[people[1].username] {
			t.Error("two users of one browser have the same device id")
		}
	})
}

func TestDeviceToken_IdentifiesDeviceAfterEmailChange(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.confirmed(t)
		a := s.call(t, "POST", "/loginUser", credentials(p.username, password)).want(t, 200)
		token := a.header.Get("X-Device-Token")
		s.call(t, "PATCH", "/v1/users/me", jsonBody(shape{"email": "new-" + p.email}), bearer(a.text(t, "token"))).want(t, 200)
		s.confirm(t, person{email: "new-" + p.email})
		for _, login := range []string{p.username, "new-" + p.email} {
			a := s.newSession(t, login, password, header("X-Device-Token", token)).want(t, 201)
			if fresh := a.header.Get("X-Device-Token"); deviceID(t, fresh) != deviceID(t, token) || fresh == token {
				t.Errorf("login as %s: device token %s after %s, want a new token with the same id", login, fresh, token)
			}
		}
	})
}

func TestDeviceToken_IsValidOnOtherReplicaAndAfterRestart(t *testing.T) {
	login := func(t *testing.T, base string, p person, token string) string {
		t.Helper()
		a := callAt(t, base, "POST", "/loginUser", credentials(p.username, password), header("X-Device-Token", token)).want(t, 200)
		return a.header.Get("X-Device-Token")
	}
	t.Run("on another replica of sessiond serve", func(t *testing.T) {
		s := startServe(t, 2)
		p := s.confirmed(t)
		first := login(t, s.replicas[0], p, "")
		if second := login(t, s.replicas[1], p, first); deviceID(t, second) != deviceID(t, first) {
			t.Error("the second replica does not recognise a device token of the first replica")
		}
	})
	t.Run("after a restart of sessiond dev", func(t *testing.T) {
		data := t.TempDir()
		s, stop := startStoppableDev(t, data)
		defer stop()
		p := s.confirmed(t)
		first := login(t, s.base, p, "")
		stop()
		if second := login(t, startDev(t, data).base, p, first); deviceID(t, second) != deviceID(t, first) {
			t.Error("the device is not recognised after a restart")
		}
	})
}

// A page of another site sends the victim's browser to a login with the attacker's credentials. The browser
// sends such a form without a preflight.
func TestCrossSiteForm_CannotSignInOrReplaceDeviceCookie_ASVS_V3_5_1_V3_5_2(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		attacker := s.confirmed(t)
		form := formBody("username", attacker.username, "password", password)
		for what, headers := range map[string][]option{
			"a page of another site":               {header("Sec-Fetch-Site", "cross-site"), header("Origin", "https://evil.example")},
			"a page of another host of the site":   {header("Sec-Fetch-Site", "same-site"), header("Origin", "https://evil.id.example")},
			"an old browser":                       {header("Origin", "https://evil.example")},
			"a page without an origin":             {header("Origin", "null")},
			"a page of another site, without more": {header("Sec-Fetch-Site", "cross-site")},
		} {
			for _, path := range []string{"/loginUser", "/api/v1/loginUser"} {
				a := s.call(t, "POST", path, append(headers, form)...)
				a.problem(t, true, 403, "cross_origin")
				if a.header.Get("Set-Cookie") != "" || a.header.Get("X-Device-Token") != "" || a.header.Get("X-Auth-Token") != "" {
					t.Errorf("%s: POST %s returned %v", what, path, a.header)
				}
			}
			for _, r := range everyRoute() {
				if r.method == "GET" || r.method == "HEAD" {
					continue
				}
				if a := s.call(t, r.method, r.at("x"), append(headers, form)...); a.status != 403 || !strings.Contains(string(a.body), "another site") {
					t.Errorf("%s: %s %s: status %d, want 403: %s", what, r.method, r.path, a.status, a.body)
				}
			}
		}
		for what, o := range map[string]option{
			"a page of the service":  header("Sec-Fetch-Site", "same-origin"),
			"the user":               header("Sec-Fetch-Site", "none"),
			"an old browser":         header("Origin", s.base),
			"no browser":             header("Accept", "*/*"),
			"a gateway of this form": header("X-Forwarded-For", "192.0.2.1"),
		} {
			if a := s.call(t, "POST", "/loginUser", form, o).want(t, 200); a.header.Get("Set-Cookie") == "" {
				t.Errorf("%s got no device cookie", what)
			}
		}
		// A gateway asks about requests of any site, and forwards their headers.
		s.call(t, "POST", "/v1/verify", bearer(attacker.token), header("Sec-Fetch-Site", "cross-site"), header("Origin", "https://evil.example")).want(t, 200)
	})
}
