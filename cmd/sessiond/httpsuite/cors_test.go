package httpsuite

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestCORS_AllowsListedOriginsOnly_ASVS_V3_4_2(t *testing.T) {
	corsHeaders := func(a response) http.Header {
		h := http.Header{}
		for name, values := range a.header {
			if strings.HasPrefix(name, "Access-Control-") {
				h[name] = values
			}
		}
		return h
	}
	preflight := func(t *testing.T, s *service, origin string) response {
		return s.call(t, "OPTIONS", "/updateUser", header("Origin", origin),
			header("Access-Control-Request-Method", "PUT"), header("Access-Control-Request-Headers", "authorization,content-type,x-device-token"))
	}
	login := func(t *testing.T, s *service, p person, origin string) response {
		return s.call(t, "POST", "/loginUser", header("Origin", origin), credentials(p.username, password)).want(t, 200)
	}
	unlisted := []string{
		"null", "https://trusted.com.evil", "https://eviltrusted.com", "http://trusted.com", "https://trusted.com:8443",
		"https://sub.trusted.com", "https://trusted.com@evil.example", "*", "",
	}
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		for _, origin := range append(unlisted, "https://trusted.com") {
			for _, a := range []response{preflight(t, s, origin), s.call(t, "GET", "/livez", header("Origin", origin))} {
				if h := corsHeaders(a); len(h) > 0 {
					t.Errorf("without CORS_ORIGINS, a request from origin %q gets the CORS headers %v, want none", origin, h)
				}
			}
		}
		a := s.call(t, "POST", "/loginUser", header("Origin", "https://trusted.com"), credentials(p.username, password)).want(t, 403)
		if h := corsHeaders(a); len(h) > 0 {
			t.Errorf("without CORS_ORIGINS, a login gets the CORS headers %v, want none", h)
		}
	})
	t.Run("allows exactly the origins in CORS_ORIGINS", func(t *testing.T) {
		s := startDev(t, t.TempDir(), "CORS_ORIGINS=https://Trusted.com:443, http://localhost:3000", "CORS_HEADERS=traceparent, baggage,sentry-trace")
		p := s.register(t)
		for _, origin := range unlisted {
			status := 403
			if origin == "" { // browsers send no empty origin
				status = 200
			}
			login := s.call(t, "POST", "/loginUser", header("Origin", origin), credentials(p.username, password)).want(t, status)
			for _, a := range []response{preflight(t, s, origin), login} {
				if h := corsHeaders(a); len(h) > 0 {
					t.Errorf("a request from origin %q, which CORS_ORIGINS lacks, gets the CORS headers %v", origin, h)
				}
			}
		}
		for _, origin := range []string{"https://trusted.com", "http://localhost:3000"} {
			h := corsHeaders(preflight(t, s, origin))
			if h.Get("Access-Control-Allow-Origin") != origin || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "PUT") ||
				!strings.Contains(strings.ToLower(h.Get("Access-Control-Allow-Headers")), "x-device-token") {
				t.Errorf("a preflight request from %s gets the CORS headers %v, want PUT and X-Device-Token allowed", origin, h)
			}
			traced := s.call(t, "OPTIONS", "/v1/sessions", header("Origin", origin), header("Access-Control-Request-Method", "POST"),
				header("Access-Control-Request-Headers", "authorization,baggage,content-type,sentry-trace,traceparent"))
			if allowed := corsHeaders(traced).Get("Access-Control-Allow-Headers"); !strings.Contains(allowed, "traceparent") || !strings.Contains(allowed, "baggage") {
				t.Errorf("a preflight request with the headers of CORS_HEADERS from %s is allowed the headers %q", origin, allowed)
			}
			other := s.call(t, "OPTIONS", "/v1/sessions", header("Origin", origin), header("Access-Control-Request-Method", "POST"),
				header("Access-Control-Request-Headers", "x-unlisted"))
			if h := corsHeaders(other); h.Get("Access-Control-Allow-Headers") != "" {
				t.Errorf("a preflight request with an unlisted header gets the CORS headers %v", h)
			}
			if h := corsHeaders(s.call(t, "HEAD", "/livez", header("Origin", origin)).want(t, 200)); h.Get("Access-Control-Allow-Origin") != origin {
				t.Errorf("a HEAD request from %s gets the CORS headers %v", origin, h)
			}
			a := login(t, s, p, origin)
			h = corsHeaders(a)
			if h.Get("Access-Control-Allow-Origin") != origin || !strings.HasPrefix(strings.ToLower(h.Get("Access-Control-Expose-Headers")), "x-auth-token, x-device-token,") {
				t.Errorf("a login from %s gets the CORS headers %v, want the token headers exposed", origin, h)
			}
			if h.Get("Access-Control-Allow-Credentials") != "" {
				t.Error("Access-Control-Allow-Credentials is set, so pages could send cookies")
			}
			if !slices.Contains(slices.Collect(maps.Keys(a.header)), "Vary") {
				t.Error("a response that depends on the origin has no Vary")
			}
		}
	})
}
