package httpsuite

import (
	"fmt"
	"strings"
	"testing"
)

func TestLog_ClientCannotForgeLines(t *testing.T) {
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
