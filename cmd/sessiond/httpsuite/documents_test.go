package httpsuite

import (
	"strings"
	"testing"
)

// documents checks the responses of public documents, of health checks and of unknown paths.
func documents(t *testing.T, s *service) {
	public := "https://id.example"
	if s.prefix == "" { // this is 'sessiond dev'
		public = s.base
	}
	s.call(t, "GET", "/.well-known/oauth-authorization-server").is(t, 200, shape{
		"issuer": aText, "jwks_uri": public + "/.well-known/jwks.json",
		"token_endpoint": public + "/oauth/token", "revocation_endpoint": public + "/oauth/revoke",
		"response_types_supported": []any{}, "grant_types_supported": []any{"refresh_token"},
		"introspection_endpoint": public + "/oauth/introspect", "introspection_endpoint_auth_methods_supported": []any{"client_secret_basic"},
		"token_endpoint_auth_methods_supported": []any{"none"}, "revocation_endpoint_auth_methods_supported": []any{"none"},
		"service_documentation": public + "/docs",
	})
	s.call(t, "GET", "/livez").is(t, 200, shape{"status": "ok"})
	s.call(t, "GET", "/readyz").is(t, 200, shape{"status": "ok", "checks": shape{"database": "ok", "redis": "ok", "redis_trusted": "ok"}})
	if got := s.call(t, "GET", "/openapi.json").want(t, 200); got.header.Get("Content-Type") != "application/json; charset=utf-8" || !strings.HasPrefix(got.text(t, "openapi"), "3.1") {
		t.Errorf("openapi.json has Content-Type %s and version %s", got.header.Get("Content-Type"), got.text(t, "openapi"))
	}
	docs := s.call(t, "GET", "/docs").want(t, 200)
	if got := docs.header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("/docs has Content-Type %s", got)
	}
	for _, foreign := range []string{`src="http`, `src="//`, `<link`, `@import`, `url(http`} {
		if strings.Contains(string(docs.body), foreign) {
			t.Errorf("the page /docs contains %s, so it may load a file from another host", foreign)
		}
	}
	a := s.call(t, "GET", "/nothing-here")
	a.problem(t, false, 404, "not_found")
	for _, path := range []string{"/api/v1", "/api/v1/nothing", "/v1", "/api/v1/v1/sessions", "/livez//", "//livez", "/v1/sessions/a/b", "/metrics", "/debug/pprof/", "/debug/vars", "/.git/HEAD", "/.git/config", "/.svn/entries", "/.well-known/", "/v1/", "/user/logins/", "/api/"} {
		s.call(t, "GET", path).want(t, 404)
	}
}
