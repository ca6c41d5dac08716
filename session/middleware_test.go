package session_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/session/issuer/issuertest"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// whoami answers a request with the subject of the request's token.
var whoami = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	c, ok := session.ClaimsFrom(r.Context())
	if !ok {
		panic("no claims")
	}
	_, _ = w.Write([]byte(c.Subject))
})

func get(ctx context.Context, h http.Handler, authorization ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	r.Header["Authorization"] = authorization
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestMiddleware_Answers401WithoutValidToken(t *testing.T) {
	w := issuertest.New(t, sqlstoretest.New(t), redisstoretest.New(t))
	m := w.Replicas[0]
	active, _ := w.Start(t)
	ended, s := w.Start(t)
	if _, err := m.Revoke(t.Context(), w.User.ID, s.ID, issuer.ReasonRevoked); err != nil {
		t.Fatal(err)
	}
	const bare = `Bearer realm="sessiond"`
	const invalid = bare + `, error="invalid_token", error_description="The token is not valid any more"`
	h := m.Middleware(whoami)
	for _, c := range []struct {
		name          string
		authorization []string
		status        int
		challenge     string
		code          string
	}{
		{"an active token", []string{"Bearer " + active.AccessToken}, 200, "", ""},
		// RFC 9110 section 11.1: the authentication scheme is case-insensitive.
		{"another spelling of Bearer", []string{"bearer   " + active.AccessToken}, 200, "", ""},
		{"no Authorization header", nil, 401, bare, "no_token"},
		{"another scheme", []string{"Basic YWRhOnNlY3JldA=="}, 401, bare, "no_token"},
		{"Bearer without a token", []string{"Bearer"}, 401, invalid, "invalid_token"},
		{"a revoked token", []string{"Bearer " + ended.AccessToken}, 401, invalid, "invalid_token"},
		{"a malformed token", []string{"Bearer x.y.z"}, 401, invalid, "invalid_token"},
		{"two Authorization headers", []string{"Bearer " + active.AccessToken, "Bearer " + active.AccessToken}, 401, invalid, "invalid_token"},
		{"two tokens in one header", []string{"Bearer " + active.AccessToken + ", Bearer " + active.AccessToken}, 401, invalid, "invalid_token"},
	} {
		got := get(t.Context(), h, c.authorization...)
		if got.Code != c.status || got.Header().Get("WWW-Authenticate") != c.challenge {
			t.Errorf("%s: got status %d with challenge %q, want %d with %q", c.name, got.Code, got.Header().Get("WWW-Authenticate"), c.status, c.challenge)
		}
		if c.status == 200 {
			if got.Body.String() != w.User.ID {
				t.Errorf("%s: next got the claims of the subject %q", c.name, got.Body)
			}
			continue
		}
		wantProblem(t, c.name, got, c.code)
	}
	// RFC 6750 section 2.3 allows a token in the URL. Middleware refuses it, because URLs are logged.
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?access_token="+active.AccessToken, nil)
	rec := httptest.NewRecorder()
	if h.ServeHTTP(rec, r); rec.Code != 401 {
		t.Errorf("a token in the URL: got status %d, want 401", rec.Code)
	}
}

func wantProblem(t *testing.T, name string, got *httptest.ResponseRecorder, code string) {
	t.Helper()
	var p struct {
		Type, Title, Detail, Code string
		Status                    int
	}
	if err := json.Unmarshal(got.Body.Bytes(), &p); err != nil {
		t.Errorf("%s: body %q: %v", name, got.Body, err)
	}
	if p.Type != "about:blank" || p.Title != http.StatusText(got.Code) || p.Status != got.Code || p.Detail == "" || p.Code != code {
		t.Errorf("%s: %s, want code %s", name, got.Body, code)
	}
	h := got.Header()
	if h.Get("Cache-Control") != "no-store" || !strings.HasPrefix(h.Get("Content-Type"), "application/problem+json") {
		t.Errorf("%s: headers %v", name, h)
	}
}

func TestMiddleware_Answers503IfStoreIsDown_ASVS_V16_5_3(t *testing.T) {
	w := issuertest.New(t, sqlstoretest.New(t), redisstoretest.New(t))
	nobody := httptest.NewServer(http.NotFoundHandler())
	nobody.Close()
	introspection, err := session.NewIntrospection(nobody.URL, "id", "secret", session.RemoteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	v := w.Replicas[0].Verifier
	v.Store = redisstoretest.Open(t, "redis://"+strings.TrimPrefix(nobody.URL, "http://"), redisstore.Options{})
	v.Fallback = introspection
	h := v.Middleware(whoami)

	set, _ := w.Start(t)
	got := get(t.Context(), h, "Bearer "+set.AccessToken)
	if got.Code != 503 || got.Header().Get("Retry-After") == "" || got.Header().Get("WWW-Authenticate") != "" {
		t.Errorf("a check without the store: got status %d and headers %v", got.Code, got.Header())
	}
	wantProblem(t, "outage", got, "unavailable")
	if got := get(t.Context(), h, "Bearer x.y.z"); got.Code != 401 {
		t.Errorf("a malformed token without the store: got status %d, want 401", got.Code)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if got := get(gone, h, "Bearer "+set.AccessToken); got.Code != 503 {
		t.Errorf("a client that has left: got status %d, want 503", got.Code)
	}
}
