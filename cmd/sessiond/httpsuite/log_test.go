package httpsuite

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestLog_ClientCannotForgeLines_ASVS_V16_2_2_V16_2_4_V16_4_1(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		forged := []string{
			"x\r\n" + `{"time":"2020-01-01T00:00:00Z","level":"ERROR","msg":"forged"}` + "\r\n",
			"x\ntime=2020-01-01T00:00:00Z level=ERROR msg=forged\n", "\x1b[2K\x1b[1Aforged", `x" level=ERROR msg="forged`, "\u2028forged\u0085forged\u202e",
		}
		for _, text := range forged {
			s.call(t, "POST", "/loginUser", credentials(text, text))
			s.call(t, "POST", "/registerUser", registration(text, text, password)).want(t, 400)
			s.call(t, "POST", "/loginUser", jsonBody(shape{text: "x"})).want(t, 400)
			s.call(t, "POST", "/loginUser", formBody(text, "x")).want(t, 400)
			s.call(t, "GET", "/"+strings.Trim(fmt.Sprintf("%q", []byte(text)), "[]"))
			escaped := ""
			for _, b := range []byte(text) {
				escaped += fmt.Sprintf("%%%02x", b)
			}
			s.call(t, "GET", "/"+escaped).want(t, 404)
			s.call(t, "GET", "/user/logins/delete/"+escaped, bearer(p.token)).want(t, 400)
			plain := strings.Map(func(r rune) rune {
				if r < ' ' {
					return ' '
				}
				return r
			}, text)
			s.call(t, "POST", "/loginUser", credentials(p.username, password),
				header("User-Agent", plain), header("X-Request-Id", plain), header("X-Forwarded-For", plain), header("Referer", plain)).want(t, 200)
			s.call(t, "FORGED", "/loginUser", header("Origin", plain)).want(t, 405)
		}
		for line := range strings.Lines(s.logged(t)) {
			if strings.HasPrefix(line, `{"time":"2020`) || strings.HasPrefix(line, "time=2020") || strings.Contains(line, `level=ERROR`) || strings.Contains(line, `"level":"ERROR"`) {
				t.Errorf("the log has a line that a client forged: %s", line)
			}
		}
		checkLog(t, s)
	})
}

// The line of a request says who (subject, address), what (method, route, status), when (time) and where
// (request id) it was, also of a sign-in that failed.
func TestLog_SaysWhoDidWhatWhenAndWhere_ASVS_V16_2_1_V16_3_1(t *testing.T) {
	s := startServe(t, 1)
	p := s.register(t)
	sub := claimsOf(t, p.token)["sub"]
	send := func(id string, status int, method, path string, opts ...option) {
		s.call(t, method, path, append(opts, header("X-Request-Id", id))...).want(t, status)
	}
	send("sign-in", 200, "POST", "/loginUser", credentials(p.username, password))
	send("wrong-password", 403, "POST", "/loginUser", credentials(p.username, "wrong passphrase"))
	send("unknown-user", 401, "POST", "/v1/sessions", jsonBody(shape{"login": "nobody", "password": password}))
	send("refresh", 200, "POST", "/oauth/token", refreshGrant(p.refresh))
	send("wrong-refresh", 400, "POST", "/oauth/token", refreshGrant("x"))
	send("wrong-token", 401, "GET", "/v1/users/me", bearer("x"))
	send("reauthenticate", 403, "POST", "/v1/sessions/current/reauthenticate", bearer(p.token), jsonBody(shape{"password": "wrong passphrase"}))
	send("sign-out", 200, "DELETE", "/logout", bearer(p.token))
	type line struct {
		Time, Level, Msg, Method, Route, IP, Subject string
		RequestID                                    string `json:"request_id"`
		Status                                       int
	}
	lines := map[string]line{}
	for text := range strings.Lines(s.logged(t)) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		lines[l.RequestID] = l
	}
	for id, want := range map[string]line{
		"sign-in":        {Method: "POST", Route: "/loginUser", Status: 200, Subject: sub.(string)},
		"wrong-password": {Method: "POST", Route: "/loginUser", Status: 403},
		"unknown-user":   {Method: "POST", Route: "/v1/sessions", Status: 401},
		"refresh":        {Method: "POST", Route: "/oauth/token", Status: 200},
		"wrong-refresh":  {Method: "POST", Route: "/oauth/token", Status: 400},
		"wrong-token":    {Method: "GET", Route: "/v1/users/me", Status: 401},
		"reauthenticate": {Method: "POST", Route: "/v1/sessions/current/reauthenticate", Status: 403, Subject: sub.(string)},
		"sign-out":       {Method: "DELETE", Route: "/logout", Status: 200, Subject: sub.(string)},
	} {
		got := lines[id]
		if got.Time == "" || got.Level != "INFO" {
			t.Errorf("%s: logged at %q with the level %q", id, got.Time, got.Level)
		}
		want.Time, want.Level, want.Msg, want.IP, want.RequestID = got.Time, got.Level, "request", "127.0.0.1", id
		if got != want {
			t.Errorf("%s is logged as %+v, want %+v", id, got, want)
		}
	}
	checkLog(t, s)
}
