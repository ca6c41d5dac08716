package httpsuite

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// recorder is a client that keeps all responses.
type recorder struct {
	*service
	responses []recordedResponse
}

type recordedResponse struct {
	request string // method and path
	response
}

func (w *recorder) ask(t *testing.T, method, path string, opts ...option) response {
	t.Helper()
	a := w.call(t, method, path, opts...).patient(t)
	w.responses = append(w.responses, recordedResponse{method + " " + path, a})
	return a
}

// mayHaveTokens reports whether a response may contain tokens. Logins and refreshes return tokens,
// and a password reset returns a device token.
func (w *recordedResponse) mayHaveTokens() bool {
	if w.status != 200 && w.status != 201 {
		return false
	}
	for _, route := range []string{"PUT /updatePasswordViaEmail", "POST /registerUser", "POST /loginUser", "POST /v1/sessions", "POST /oauth/token", "POST /v1/sessions/current/reauthenticate"} {
		if w.request == route {
			return true
		}
	}
	return false
}

// hashPattern matches a password hash, and the name of a field with a password hash.
var hashPattern = regexp.MustCompile(`\$2[abxy]\$|\$sessiond\$|[Pp]assword_?[Hh]ash`)

// The test uses an account from its registration to its deletion, and also sends many wrong
// requests. No log line may contain a password, a password hash, a token or the secret of a mailed
// link. A token may appear in a response only if that response issues tokens.
func TestSecrets_AppearInNoLogAndOnlyInResponseThatIssuesThem_ASVS_V10_1_1_V14_2_1_V16_2_2_V16_2_4_V16_2_5(t *testing.T) {
	path, client := clientsFile(t)
	eachMode(t, func(t *testing.T, s *service) {
		w := &recorder{service: s}
		secrets := map[string]string{} // name → secret
		keep := func(what, secret string) string {
			if len(secret) < 7 {
				t.Fatalf("%s is %q, which is too short to search for", what, secret)
			}
			secrets[what] = secret
			return secret
		}
		tokens := func(what string, a response) (access, refresh string) {
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
		name := newName()
		email := name + "@example.com"
		first := keep("the password", "Canary1-first passphrase")
		wrong := keep("a wrong password", "Canary2-wrong passphrase")
		second := keep("the second password", "Canary3-second passphrase")
		third := keep("the third password", "Canary4-third passphrase")
		short := keep("a short password", "Qz7!kWp")
		common := keep("a common password", "qwertyuiop")
		post := func(path string, body any, opts ...option) response {
			return w.ask(t, "POST", path, append([]option{jsonBody(body)}, opts...)...)
		}

		access, refresh := tokens("registration", post("/registerUser", shape{"username": name, "email": email, "password": first}).want(t, 200))
		post("/registerUser", shape{"username": name, "email": email, "password": wrong}).want(t, 403)
		post("/registerUser", shape{"username": name, "email": email, "password": short}).want(t, 400)
		post("/registerUser", shape{"username": name, "email": email, "password": common}).want(t, 400)
		confirm := keep("the confirmation token", s.confirmToken(t, email))
		w.ask(t, "GET", "/verify?token="+confirm).want(t, 200)
		post("/v1/users/verify", shape{"token": confirm, "password": wrong}).want(t, 403)
		post("/v1/users/verify", shape{"token": confirm, "password": first}).want(t, 204)
		post("/v1/users", shape{"username": name + "2", "email": email, "password": second}).want(t, 202)
		post("/v1/users", shape{"username": name, "email": "x" + email, "password": second}).want(t, 409)
		login, loginRefresh := tokens("login", post("/loginUser", shape{"username": name, "password": first}).want(t, 200))
		tokens("login on /v1", post("/v1/sessions", shape{"login": email, "password": first}).want(t, 201))
		access, _ = tokens("reauthentication", post("/v1/sessions/current/reauthenticate", shape{"password": first}, bearer(access)).want(t, 200))

		// Send wrong secrets, and correct secrets in the wrong place.
		device := header("X-Device-Token", secrets["login: device token"])
		post("/loginUser", shape{"username": name, "password": wrong}, device).want(t, 403)
		post("/loginUser", shape{"username": secrets["login: device token"], "password": wrong}, device).want(t, 401)
		post("/loginUser", shape{"username": name, "password": wrong}, header("Cookie", "sessiond_device="+secrets["login: device token"])).want(t, 403)
		post("/loginUser", shape{"username": name, "password": wrong}).want(t, 403)
		post("/loginUser", shape{"username": first, "password": name}).want(t, 401)
		post("/v1/sessions", shape{"login": first, "password": wrong}).want(t, 401)
		post("/v1/sessions", shape{"login": first + "@example.com", "password": wrong}).want(t, 401)
		post("/v1/sessions/current/reauthenticate", shape{"password": wrong}, bearer(access)).want(t, 403)
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
				// JSON with the content type of a form is what "curl -d" sends by default.
				w.ask(t, "POST", path, rawBody("application/x-www-form-urlencoded", []byte(body)))
			}
			w.ask(t, "POST", "/oauth/token", rawBody("application/x-www-form-urlencoded", []byte(body)))
		}
		for _, authorization := range []string{first, "Basic " + first, "Bearer " + first, "Bearer " + refresh, access, "Bearer " + access + "x", "Bearer " + access[:len(access)-2]} {
			w.ask(t, "GET", "/findUser?username="+name, header("Authorization", authorization)).want(t, 401)
		}
		for _, secret := range []string{access, refresh} {
			w.ask(t, "GET", "/user/logins/delete/"+secret, bearer(login)).want(t, 400)
			w.ask(t, "DELETE", "/v1/sessions/"+secret, bearer(login)).want(t, 404)
			w.ask(t, "GET", "/v1/sessions?cursor="+secret, bearer(login))
			w.ask(t, "DELETE", "/v1/sessions?token="+secret, bearer(login)).want(t, 400)
			w.ask(t, "DELETE", "/v1/sessions?"+secret, bearer(login)).want(t, 400)
			w.ask(t, "GET", "/"+secret).want(t, 404)
			w.ask(t, "GET", "/reset?resetPasswordToken="+secret).want(t, 403)
			w.ask(t, "GET", "/loginUser?token="+secret).want(t, 405)
			w.ask(t, "POST", "/oauth/token", formBody("grant_type", secret)).want(t, 400)
			w.ask(t, "POST", "/oauth/token", refreshGrant(secret+"x")).want(t, 400)
			w.ask(t, "POST", "/oauth/token", jsonBody(shape{"grant_type": "refresh_token", "refresh_token": secret})).want(t, 415)
			w.ask(t, "POST", "/oauth/introspect", formBody("token", secret), client).want(t, 200)
			w.ask(t, "POST", "/oauth/introspect", formBody("token", secret), func(r *http.Request) { r.SetBasicAuth("gateway", secret) }).want(t, 401)
		}

		w.ask(t, "PATCH", "/v1/users/me", jsonBody(shape{"email": "new-" + email}), bearer(access)).want(t, 200)
		undo := keep("the undo token", undoLink.FindStringSubmatch(s.awaitMail(t, email, "another address").Text)[1])
		w.ask(t, "GET", "/v1/email-changes/undo?token="+undo).want(t, 200)
		post("/v1/email-changes/undo", shape{"token": undo + "x"}).want(t, 404)

		// Read the account, change the password and reset the password.
		w.ask(t, "GET", "/findUser?username="+name, bearer(access)).want(t, 200)
		for _, path := range []string{"/user/logins/show", "/v1/users/me", "/v1/sessions", "/v1/sessions/current", "/v1/logins"} {
			w.ask(t, "GET", path, bearer(access)).want(t, 200)
		}
		w.ask(t, "PUT", "/updatePassword", jsonBody(shape{"username": name, "password": second, "current_password": wrong}), bearer(access)).want(t, 403)
		w.ask(t, "PUT", "/updatePassword", credentials(name, short), bearer(access)).want(t, 400)
		w.ask(t, "PUT", "/v1/users/me/password", jsonBody(shape{"current_password": first, "new_password": second}), bearer(access)).want(t, 204)
		w.ask(t, "GET", "/v1/sessions/current", bearer(login)).want(t, 401)
		w.ask(t, "POST", "/oauth/token", refreshGrant(loginRefresh)).want(t, 400)

		post("/forgotPassword", shape{"email": email}).want(t, 200)
		reset := keep("the reset token", resetLink.FindStringSubmatch(s.awaitMail(t, email, "resetPasswordToken=").Text)[1])
		w.ask(t, "GET", "/reset?resetPasswordToken="+reset).want(t, 200)
		w.ask(t, "POST", "/reset?resetPasswordToken="+reset).want(t, 405)
		post("/v1/password-resets/check", shape{"token": reset}).want(t, 204)
		w.ask(t, "PUT", "/updatePasswordViaEmail", jsonBody(shape{"username": name, "password": short, "resetPasswordToken": reset})).want(t, 400)
		w.ask(t, "PUT", "/updatePasswordViaEmail", jsonBody(shape{"username": name, "password": third, "resetPasswordToken": reset})).want(t, 200)
		w.ask(t, "PUT", "/updatePasswordViaEmail", jsonBody(shape{"username": name, "password": third, "resetPasswordToken": reset})).want(t, 403)
		post("/v1/password-resets/complete", shape{"token": reset, "password": third}).want(t, 404)

		access, refresh = tokens("login after the reset", post("/loginUser", shape{"username": name, "password": third}).want(t, 200))
		_, newer := tokens("refresh", w.ask(t, "POST", "/oauth/token", refreshGrant(refresh)).want(t, 200))
		tokens("second refresh", w.ask(t, "POST", "/oauth/token", refreshGrant(newer)).want(t, 200))
		w.ask(t, "POST", "/oauth/token", refreshGrant(refresh)).want(t, 400) // an old refresh token counts as stolen
		w.ask(t, "GET", "/v1/users/me", bearer(access)).want(t, 401)
		access, refresh = tokens("last login", post("/loginUser", shape{"username": name, "password": third}).want(t, 200))
		w.ask(t, "POST", "/oauth/revoke", formBody("token", access)).want(t, 200)
		access, _ = tokens("last refresh", w.ask(t, "POST", "/oauth/token", refreshGrant(refresh)).want(t, 200))
		w.ask(t, "POST", "/oauth/revoke", formBody("token", "x"+refresh)).want(t, 200)
		w.ask(t, "DELETE", "/deleteUser?username="+name, bearer(access)).want(t, 200)
		s.awaitMail(t, email, "was deleted")

		for _, a := range w.responses {
			text := string(a.body) + fmt.Sprint(a.header)
			if hashPattern.MatchString(text) {
				t.Errorf("the response to %.60s (%d) contains a hash: %s", a.request, a.status, a.body)
			}
			for what, secret := range secrets {
				if isPassword := strings.Contains(what, "password"); (isPassword || !a.mayHaveTokens()) && strings.Contains(text, secret) {
					t.Errorf("the response to %.60s (%d) contains %s: %s", a.request, a.status, what, a.body)
				}
			}
		}
		logs := s.logged(t)
		for line := range strings.Lines(logs) {
			if hashPattern.MatchString(line) {
				t.Errorf("the log contains a hash: %s", line)
			}
			for what, secret := range secrets {
				if strings.Contains(line, secret) {
					t.Errorf("the log contains %s: %s", what, line)
				}
			}
		}
		if strings.Count(logs, "\n") < len(w.responses) {
			t.Errorf("the log has %d lines for %d requests; want one per request", strings.Count(logs, "\n"), len(w.responses))
		}
		checkLog(t, s)
	}, "LOG_LEVEL=debug", "CLIENTS_FILE="+path)
}

// checkLog fails the test unless every line of the log is one log record with a time in UTC.
// 'sessiond serve' logs JSON, and 'sessiond dev' logs text.
func checkLog(t *testing.T, s *service) {
	t.Helper()
	lines := strings.Split(s.logs.String(), "\n")
	for _, line := range lines[:len(lines)-1] {
		var at string
		if s.prefix == "" { // this is 'sessiond dev'
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
			t.Errorf("the log has a line that is not a record with a time in UTC: %q", line)
		}
		if i := strings.IndexFunc(line, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f || r == '\u202e' }); i >= 0 {
			t.Errorf("the log has a control character: %q", line)
		}
	}
}
