package httpsuite

import (
	"net/http"
	"strings"
	"testing"
)

// An attacker may request a password reset for somebody else with a forged Host header. The link in
// the reset mail must nevertheless lead to the service, and not to the attacker's site.
func TestResetLink_ExpiresAndIgnoresHostHeader_ASVS_V1_2_2_V6_4_1_V6_4_3(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		forged := func(r *http.Request) {
			if s.prefix != "" { // 'sessiond dev' does not answer at another host
				r.Host = "evil.example"
			}
		}
		s.call(t, "POST", "/forgotPassword", jsonBody(shape{"email": p.email}), forged,
			header("X-Forwarded-Host", "evil.example"), header("Forwarded", "host=evil.example")).want(t, 200)
		m := s.awaitMail(t, p.email, "resetPasswordToken=")
		if strings.Contains(m.Text, "evil.example") {
			t.Errorf("the mail contains the host of the request:\n%s", m.Text)
		}
		public := "https://id.example"
		if s.prefix == "" { // this is 'sessiond dev'
			public = s.base
		}
		if !strings.Contains(m.Text, public+"/reset?resetPasswordToken=") {
			t.Errorf("the mail has no link that starts with %s:\n%s", public, m.Text)
		}
		token := resetLink.FindStringSubmatch(m.Text)[1]
		await(t, "the reset link expires", func() bool { return s.call(t, "GET", "/reset?resetPasswordToken="+token).status == 403 })
		s.call(t, "PUT", "/updatePasswordViaEmail", jsonBody(shape{"username": p.username, "password": goodPassword, "resetPasswordToken": token})).
			problem(t, true, 403, "invalid_reset_token")
		if !s.alive(t, p.token) {
			t.Error("an expired link revoked a session")
		}
		s.login(t, p)
	}, "RESET_TTL=2s")
}
