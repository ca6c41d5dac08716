package httpsuite

import (
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
)

// wantIdentity fails the test unless the response of /v1/verify is a 200 whose headers name the
// user and the session of the access token.
func (a response) wantIdentity(t *testing.T, token string, username string) {
	t.Helper()
	a = a.want(t, 200)
	claims := claimsOf(t, token)
	for name, want := range map[string]any{
		"X-Auth-Subject": claims["sub"], "X-Auth-Session": claims["sid"], "X-Auth-Token-Id": claims["jti"], "X-Auth-Username": username,
	} {
		if got := a.header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Request-Id") == "" || len(a.body) != 0 {
		t.Errorf("got headers %v and body %q, want no-store, a request id and no body", a.header, a.body)
	}
}

func TestGatewayCheck_AcceptsEveryMethodAndPath(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		token := s.login(t, p)
		// A gateway may send any method, including PROPFIND and BREW, which the service's own router
		// does not know.
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "BREW"} {
			for _, path := range []string{"/v1/verify", "/v1/verify/", "/v1/verify/a/b%2Fc?d=e", "/v1/verify//x", "/v1/verify?x"} {
				s.call(t, method, path, bearer(token)).wantIdentity(t, token, p.username)
				a := s.call(t, method, path)
				if a.want(t, 401); a.header.Get("WWW-Authenticate") != `Bearer realm="sessiond"` {
					t.Errorf("%s %s without a token: challenge in %v", method, path, a.header)
				}
			}
		}
		if got := s.call(t, "GET", "/v1/verify", bearer(token), header("X-Request-Id", "abc-1")).header.Get("X-Request-Id"); got != "abc-1" {
			t.Errorf("X-Request-Id is %q, want that of the gateway", got)
		}
		for _, path := range []string{"/v1/verifyx", "/v1/verif", "/V1/verify"} {
			s.call(t, "GET", path, bearer(token)).want(t, 404)
		}
		s.call(t, "GET", "/v1/verify", bearer(token+"x")).problem(t, false, 401, "invalid_token")
		s.call(t, "GET", "/v1/verify", bearer(token), header("X-Auth-Subject", "forged")).wantIdentity(t, token, p.username)

		s.call(t, "DELETE", "/v1/sessions/current", bearer(token)).want(t, 204)
		a := s.call(t, "GET", "/v1/verify", bearer(token))
		a.problem(t, false, 401, "invalid_token")
		for name := range a.header {
			if strings.HasPrefix(name, "X-Auth-") {
				t.Errorf("the refused check returned %s: %q", name, a.header[name])
			}
		}
	})
}

// Services behind a gateway decode the bytes of a header in different ways. A percent-encoded
// username means the same to all of them.
func TestGatewayCheck_PercentEncodesUsername_ASVS_V1_2_1(t *testing.T) {
	s := startDev(t, t.TempDir())
	for username, want := range map[string]string{
		"ada love":   "ada%20love",
		"ада":        "%D0%B0%D0%B4%D0%B0",
		"a%20b":      "a%2520b",
		"o'neil;x=y": "o%27neil%3Bx%3Dy",
		"ada+love":   "ada%2Blove",
		"a,b":        "a%2Cb",
	} {
		var got struct{ Token string }
		s.call(t, "POST", "/registerUser", jsonBody(shape{
			"username": username, "email": newName() + "@example.com", "password": "a long passphrase",
		})).want(t, 200).into(t, &got)
		s.call(t, "GET", "/v1/verify", bearer(got.Token)).wantIdentity(t, got.Token, want)
	}
}

// Every replica keeps a cache of the tokens whose signature it has verified. It must refuse such a
// token after another replica has revoked the token.
func TestGatewayCheck_RefusesRevokedTokenWithCachedSignature_ASVS_V7_4_1(t *testing.T) {
	t.Parallel()
	rounds := 10
	if isLong() {
		rounds = 100
	}
	s := startServe(t, 3)
	p := s.register(t)
	for i := range rounds {
		token := s.login(t, p)
		for _, base := range s.replicas {
			callAt(t, base, "GET", "/v1/verify", bearer(token)).want(t, 200)
		}
		callAt(t, s.replicas[i%3], "DELETE", "/v1/sessions/current", bearer(token)).want(t, 204)
		for _, base := range s.replicas {
			callAt(t, base, "GET", "/v1/verify", bearer(token)).want(t, 401)
		}
	}
}

// At level info, the service does not log accepted gateway checks, because a gateway sends one
// before every request. The metrics count the checks at every level. The log level does not change
// the response headers.
func TestGatewayCheck_LogsAcceptedChecksOnlyAtLevelDebug(t *testing.T) {
	fields := map[string][]string{}
	for level, want := range map[string]bool{"info": false, "debug": true} {
		t.Run("at level "+level, func(t *testing.T) {
			metricsAddr := freeAddr(t)
			s := startServe(t, 1, "LOG_LEVEL="+level, "METRICS_ADDR="+metricsAddr)
			p := s.register(t)
			token := s.login(t, p)
			a := s.call(t, "GET", "/v1/verify", bearer(token), header("X-Request-Id", "passed"))
			a.wantIdentity(t, token, p.username)
			fields[level] = slices.Sorted(maps.Keys(a.header))
			s.call(t, "GET", "/v1/verify", bearer("x"), header("X-Request-Id", "refused")).want(t, 401)
			log := s.logged(t)
			if got := strings.Contains(log, `"request_id":"passed"`); got != want {
				t.Errorf("the accepted check is logged: %t, want %t", got, want)
			}
			if !strings.Contains(log, `"request_id":"refused"`) {
				t.Error("the refused check is not logged")
			}
			metrics := string(callAt(t, "http://"+metricsAddr, "GET", "/metrics").want(t, 200).body)
			for _, status := range []string{"200", "401"} {
				line := `sessiond_http_request_duration_seconds_count{method="GET",route="/v1/verify",status="` + status + `"} 1`
				if !strings.Contains(metrics, line) {
					t.Errorf("the metrics lack %s", line)
				}
			}
		})
	}
	if !slices.Equal(fields["info"], fields["debug"]) {
		t.Errorf("headers at level info are %q, at level debug %q", fields["info"], fields["debug"])
	}
}

// freeAddr returns an address on which nothing listens at the moment.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
