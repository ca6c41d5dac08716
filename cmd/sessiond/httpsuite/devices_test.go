package httpsuite

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"
)

// An entry of a device token, and where in it the device's id is.
const entryLength = 68

func deviceID(t testing.TB, token string) string {
	t.Helper()
	if len(token) == 0 || len(token)%entryLength != 0 {
		t.Fatalf("no device token: %q", token)
	}
	return token[4:25]
}

// browser keeps cookies as browsers do.
type browser struct {
	*service
	jar *cookiejar.Jar
	at  *url.URL // what it has in its address bar
}

func (s *service) newBrowser(t testing.TB) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{s, jar, &url.URL{Scheme: "https", Host: "id.example", Path: "/"}}
}

// post sends the browser's cookies, and keeps those of the answer.
func (b *browser) post(t testing.TB, method, path string, body shape) answer {
	t.Helper()
	a := b.call(t, method, path, jsonBody(body), func(r *http.Request) {
		for _, c := range b.jar.Cookies(b.at) {
			r.AddCookie(c)
		}
	})
	b.jar.SetCookies(b.at, (&http.Response{Header: a.header}).Cookies())
	return a
}

// device is the token that an answer hands out; the cookie has to hold the same.
func (a answer) device(t testing.TB, cookie string) string {
	t.Helper()
	lines := a.header.Values("Set-Cookie")
	if len(lines) != 1 {
		t.Fatalf("Set-Cookie: %q", lines)
	}
	token := a.header.Get("X-Device-Token")
	want := fmt.Sprintf("%s=%s; Path=/; Max-Age=31536000; HttpOnly; ", cookie, token)
	if strings.HasPrefix(cookie, "__Host-") {
		want += "Secure; "
	}
	if want += "SameSite=Lax"; lines[0] != want {
		t.Errorf("Set-Cookie: %s\nwant        %s", lines[0], want)
	}
	deviceID(t, token)
	return token
}

// deviceCookie is the cookie's name: without TLS, as in dev, no browser takes
// one with the prefix.
func (s *service) deviceCookie() string {
	if s.prefix == "" {
		return "sessiond_device"
	}
	return "__Host-sessiond_device"
}

func TestDeviceTokens(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) { testDeviceTokens(t, s, s.deviceCookie()) })
	t.Run("serve without TLS", func(t *testing.T) {
		testDeviceTokens(t, startServe(t, 1, "PUBLIC_URL=http://127.0.0.1"), "sessiond_device")
	})
}

func testDeviceTokens(t *testing.T, s *service, cookie string) {
	name := freshName()
	email := name + "@example.com"
	classic, v1 := shape{"username": name, "password": password}, shape{"login": email, "password": password}
	home := s.newBrowser(t)
	id := deviceID(t, home.post(t, "POST", "/registerUser", shape{"username": name, "email": email, "password": password}).want(t, 200).device(t, cookie))

	// However it comes along, it is known, and renewed.
	for _, r := range []struct {
		path   string
		body   shape
		status int
	}{{"/loginUser", classic, 200}, {"/api/v1/loginUser", classic, 200}, {"/v1/sessions", v1, 201}} {
		token := home.post(t, "POST", r.path, r.body).want(t, r.status).device(t, cookie)
		if deviceID(t, token) != id {
			t.Errorf("POST %s: with the cookie it is another device", r.path)
		}
		a := s.call(t, "POST", r.path, jsonBody(r.body), header("X-Device-Token", token), header("Cookie", cookie+"=garbage")).want(t, r.status)
		if deviceID(t, a.device(t, cookie)) != id {
			t.Errorf("POST %s: with the header it is another device", r.path)
		}
		if a := s.call(t, "POST", r.path, jsonBody(r.body)).want(t, r.status); deviceID(t, a.device(t, cookie)) == id {
			t.Errorf("POST %s: without a token it is the same device", r.path)
		}
		a = s.call(t, "POST", r.path, jsonBody(r.body), header("X-Device-Token", "B"+token[1:])).want(t, r.status)
		if fresh := a.device(t, cookie); len(fresh) > entryLength || deviceID(t, fresh) == id {
			t.Errorf("POST %s: a token of no version of ours is kept: %s", r.path, fresh)
		}
	}

	// What does not sign in hands out none, and takes none away.
	held := home.jar.Cookies(home.at)
	access := home.post(t, "POST", "/loginUser", classic).want(t, 200).text(t, "token")
	for what, a := range map[string]answer{
		"a wrong password":        home.post(t, "POST", "/loginUser", shape{"username": name, "password": password + "x"}).want(t, 403),
		"a wrong password on /v1": home.post(t, "POST", "/v1/sessions", shape{"login": email, "password": password + "x"}).want(t, 401),
		"nobody":                  home.post(t, "POST", "/loginUser", shape{"username": name + "x", "password": password}).want(t, 401),
		"a taken name":            home.post(t, "POST", "/registerUser", shape{"username": name, "email": email, "password": password}).want(t, 403),
		"no reset token":          home.post(t, "POST", "/v1/password-resets/complete", shape{"token": "x", "password": password}).want(t, 404),
		"signing out":             s.call(t, "DELETE", "/logout", bearerOf(access), header("X-Device-Token", held[0].Value)).want(t, 200),
		"a device token as bearer": s.call(t, "GET", "/user/logins/show", bearerOf(held[0].Value),
			header("Cookie", cookie+"="+held[0].Value)).want(t, 401),
		"a device token alone": s.call(t, "GET", "/user/logins/deletes/all", header("X-Device-Token", held[0].Value),
			header("Cookie", cookie+"="+held[0].Value)).want(t, 401),
	} {
		if a.header.Get("Set-Cookie") != "" || a.header.Get("X-Device-Token") != "" {
			t.Errorf("%s hands out a device token: %v", what, a.header)
		}
		if strings.Contains(string(a.body), held[0].Value[:25]) {
			t.Errorf("%s shows the device token: %s", what, a.body)
		}
	}
	if deviceID(t, home.post(t, "POST", "/loginUser", classic).want(t, 200).device(t, cookie)) != id {
		t.Error("after signing out the device is another one")
	}
}

// Whoever reads the mail is let in, and is known from then on: that is the
// owner's way in while others try the password.
func TestDeviceTokenAfterReset(t *testing.T) {
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
				t.Errorf("after %s %s the device is unknown", method, path)
			}
			return id
		}
		first := complete("PUT", "/updatePasswordViaEmail", shape{"username": p.username, "password": third, "resetPasswordToken": s.resetToken(t, p)}, 200)
		second := complete("POST", "/v1/password-resets/complete", shape{"token": s.resetToken(t, p), "password": third + "!"}, 204)
		if first == second {
			t.Error("two devices are one")
		}
	})
}

// Two people at one computer, in turn.
func TestDeviceTokensOnASharedBrowser(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		people := []person{s.register(t), s.register(t)}
		shared := s.newBrowser(t)
		ids := map[string]string{}
		for round := range 3 {
			for _, p := range people {
				a := shared.post(t, "POST", "/loginUser", shape{"username": p.username, "password": password}).want(t, 200)
				id := deviceID(t, a.device(t, s.deviceCookie()))
				if round > 0 && ids[p.username] != id {
					t.Errorf("round %d: the other's login made a stranger of %s", round, p.username)
				}
				ids[p.username] = id
			}
		}
		if ids[people[0].username] == ids[people[1].username] {
			t.Error("two accounts have one id")
		}
	})
}

// Another email is another name of the same device, once it has signed in.
func TestDeviceTokenAndAnotherEmail(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		a := s.call(t, "POST", "/loginUser", jsonBody(shape{"username": p.username, "password": password})).want(t, 200)
		token := a.header.Get("X-Device-Token")
		s.call(t, "PATCH", "/v1/users/me", jsonBody(shape{"email": "new-" + p.email}), bearerOf(a.text(t, "token"))).want(t, 200)
		for _, login := range []string{p.username, "new-" + p.email} {
			a := s.call(t, "POST", "/v1/sessions", jsonBody(shape{"login": login, "password": password}), header("X-Device-Token", token)).want(t, 201)
			if fresh := a.header.Get("X-Device-Token"); deviceID(t, fresh) != deviceID(t, token) || fresh == token {
				t.Errorf("as %s: %s after %s", login, fresh, token)
			}
		}
	})
}

// Replicas know each other's tokens, and those from before a restart.
func TestReplicasKnowTheSameDevices(t *testing.T) {
	login := func(t *testing.T, base string, p person, token string) string {
		t.Helper()
		a := callAt(t, base, "POST", "/loginUser", jsonBody(shape{"username": p.username, "password": password}), header("X-Device-Token", token)).want(t, 200)
		return a.header.Get("X-Device-Token")
	}
	t.Run("serve", func(t *testing.T) {
		s := startServe(t, 2)
		p := s.register(t)
		first := login(t, s.replicas[0], p, "")
		if second := login(t, s.replicas[1], p, first); deviceID(t, second) != deviceID(t, first) {
			t.Error("a stranger to the other replica")
		}
	})
	t.Run("dev", func(t *testing.T) {
		data := t.TempDir()
		s, stop := tryDev(t, data)
		defer stop()
		p := s.register(t)
		first := login(t, s.base, p, "")
		stop()
		if second := login(t, startDev(t, data).base, p, first); deviceID(t, second) != deviceID(t, first) {
			t.Error("a stranger after a restart")
		}
	})
}
