package httpsuite

import (
	"crypto/ed25519"
	"encoding/base64"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
)

// oauthError fails the test unless the response is an error in the format of RFC 6749 section 5.2.
func (a response) oauthError(t testing.TB, status int, code string) {
	t.Helper()
	a.is(t, status, shape{"error": code, "error_description": aText})
	if a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control is %q, want no-store", a.header.Get("Cache-Control"))
	}
}

// oauthRefreshRotation checks that a refresh replaces the refresh token. If the client sends the
// previous token within the grace period, it gets the same new token again. An older token counts
// as stolen, and its use revokes the session.
func oauthRefreshRotation(t *testing.T, s *service) {
	p := s.register(t)
	id := s.currentID(t, p.token)
	refresh := func(token string) response {
		return s.call(t, "POST", "/oauth/token", formBody("grant_type", "refresh_token", "refresh_token", token, "scope", "unknown parameters are ignored"))
	}
	a := refresh(p.refresh).is(t, 200, shape{"access_token": aJWT, "token_type": "Bearer", "expires_in": 3600, "refresh_token": aText})
	first, access := a.text(t, "refresh_token"), a.text(t, "access_token")
	if first == p.refresh || access == p.token {
		t.Error("a refresh returned the old access token or the old refresh token")
	}
	if a := refresh(p.refresh).want(t, 200); a.text(t, "refresh_token") != first {
		t.Error("a repeated refresh with the same token returned another refresh token")
	}
	if !s.alive(t, p.token) || !s.alive(t, access) {
		t.Error("a refresh revoked an access token")
	}
	if claimsOf(t, access)["sid"] != id || claimsOf(t, access)["auth_time"] != claimsOf(t, p.token)["auth_time"] {
		t.Error("the access token from a refresh has another sid or auth_time")
	}
	second := refresh(first).want(t, 200).text(t, "refresh_token")
	s.confirm(t, p)

	other := s.login(t, p)
	refresh(p.refresh).oauthError(t, 400, "invalid_grant")
	for name, token := range map[string]string{"the first": p.token, "the second": access} {
		if s.alive(t, token) {
			t.Errorf("%s access token is accepted after the reuse of an old refresh token", name)
		}
	}
	refresh(second).oauthError(t, 400, "invalid_grant")
	refresh(first).oauthError(t, 400, "invalid_grant")
	if !s.alive(t, other) {
		t.Error("the reuse of an old refresh token revoked another session of the user")
	}
	if h := s.history(t, other, id); h.Status != "revoked" || h.EndReason != "token_theft" || h.EndedBy != "system" {
		t.Errorf("the login history shows %+v, want revoked by the system because of token_theft", h)
	}
	s.awaitMail(t, p.email, "signed you out")
}

func oauthErrors(t *testing.T, s *service) {
	p := s.register(t)
	token := func(opts ...option) response { return s.call(t, "POST", "/oauth/token", opts...) }
	token(formBody()).oauthError(t, 400, "invalid_request")
	token(formBody("refresh_token", p.refresh)).oauthError(t, 400, "invalid_request")
	token(formBody("grant_type", "refresh_token")).oauthError(t, 400, "invalid_request")
	token(formBody("grant_type", "refresh_token", "refresh_token", p.refresh, "refresh_token", p.refresh)).oauthError(t, 400, "invalid_request")
	token(formBody("grant_type", "password", "username", p.username, "password", password)).oauthError(t, 400, "unsupported_grant_type")
	token(refreshGrant("nonsense")).oauthError(t, 400, "invalid_grant")
	token(refreshGrant(p.token)).oauthError(t, 400, "invalid_grant")
	token(formBody("grant_type", "refresh_token", "refresh_token", strings.Repeat("A", len(p.refresh)))).oauthError(t, 400, "invalid_grant")
	token(rawBody("application/x-www-form-urlencoded", []byte("grant_type=%zz"))).oauthError(t, 400, "invalid_request")
	token(jsonBody(shape{"grant_type": "refresh_token", "refresh_token": p.refresh})).oauthError(t, 415, "invalid_request")
	s.call(t, "POST", "/oauth/token?grant_type=refresh_token&refresh_token="+p.refresh, formBody()).oauthError(t, 400, "invalid_request")
	s.call(t, "POST", "/oauth/revoke", formBody()).oauthError(t, 400, "invalid_request")
	s.call(t, "POST", "/oauth/revoke", jsonBody(shape{"token": p.refresh})).oauthError(t, 415, "invalid_request")
	s.refreshed(t, p.refresh, 200)
}

// oauthRevocation checks the revocation endpoint (RFC 7009). A client that sends an access token
// revokes only this token. A client that sends a refresh token revokes the whole session.
func oauthRevocation(t *testing.T, s *service) {
	p := s.register(t)
	id := s.currentID(t, p.token)
	access, refresh := s.refreshed(t, p.refresh, 200)
	revoke := func(pairs ...string) {
		t.Helper()
		s.call(t, "POST", "/oauth/revoke", formBody(pairs...)).empty(t, 200)
	}
	revoke("token", p.token, "token_type_hint", "refresh_token") // the endpoint must ignore a wrong token_type_hint
	if s.alive(t, p.token) || !s.alive(t, access) {
		t.Error("revoking an access token must revoke that token and no other")
	}
	if !s.listed(t, access, id) {
		t.Error("revoking an access token revoked its session")
	}
	revoke("token", p.token)
	_, refresh = s.refreshed(t, refresh, 200)
	for _, unknown := range []string{"nonsense", "a.b.c", strings.Repeat("A", len(refresh)), p.token + "x", "\x00"} {
		revoke("token", unknown)
	}
	if !s.alive(t, access) {
		t.Error("revoking an unknown token revoked another one")
	}
	other := s.login(t, p)
	revoke("token", refresh, "token_type_hint", "access_token")
	if s.alive(t, access) || !s.alive(t, other) {
		t.Error("revoking a refresh token must revoke its session and no other")
	}
	s.refreshed(t, refresh, 400)
	revoke("token", refresh)
	if h := s.history(t, other, id); h.Status != "logged_out" || h.EndedBy != "user" {
		t.Errorf("the login history shows %+v, want logged_out by the user", h)
	}
}

// clientsFile creates a file for CLIENTS_FILE with one client that has all scopes. The option credentials
// authenticates a request as this client.
func clientsFile(t *testing.T) (path string, credentials option) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "clients")
	var secret strings.Builder
	if err := app.Run(t.Context(), []string{"clients", "add", "--file", path, "--id", "gateway", "--scope", "introspect,admin:write"}, environ{}.lookup, &secret, io.Discard); err != nil {
		t.Fatal(err)
	}
	return path, func(r *http.Request) { r.SetBasicAuth("gateway", strings.TrimSpace(secret.String())) }
}

// The introspection endpoint (RFC 7662) returns the claims of an active access token. For any other
// token it returns only {"active": false}.
func TestIntrospection_ReturnsClaimsOnlyForActiveTokens_ASVS_V8_2_1(t *testing.T) {
	path, credentials := clientsFile(t)
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		introspect := func(token string) response {
			return s.call(t, "POST", "/oauth/introspect", formBody("token", token), credentials)
		}
		claims := claimsOf(t, p.token)
		want := shape{"active": true, "token_type": "Bearer"}
		for _, name := range []string{"iss", "aud", "sub", "username", "client_id", "jti", "sid", "iat", "exp", "auth_time", "amr"} {
			want[name] = claims[name]
		}
		introspect(p.token).is(t, 200, want)
		inactive := shape{"active": false}
		for _, token := range []string{"nonsense", "a.b.c", p.token + "x", "\x00"} {
			introspect(token).is(t, 200, inactive)
		}
		introspect("").oauthError(t, 400, "invalid_request")
		for name, opt := range map[string]option{
			"no credentials": func(*http.Request) {}, "the user's own token": bearer(p.token), "a wrong secret": func(r *http.Request) { r.SetBasicAuth("gateway", "x") },
			"an unknown client": func(r *http.Request) { r.SetBasicAuth("nobody", "") }, "a user's password": func(r *http.Request) { r.SetBasicAuth(p.username, password) },
		} {
			a := s.call(t, "POST", "/oauth/introspect", formBody("token", p.token), opt)
			a.oauthError(t, 401, "invalid_client")
			if challenge := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, "Basic") {
				t.Errorf("with %s: challenge %q, want Basic", name, challenge)
			}
		}
		s.call(t, "DELETE", "/logout", bearer(p.token)).want(t, 200)
		introspect(p.token).is(t, 200, inactive)
	}, "CLIENTS_FILE="+path)
	t.Run("returns 401 without a clients file", func(t *testing.T) {
		s := startDev(t, t.TempDir())
		s.call(t, "POST", "/oauth/introspect", formBody("token", s.register(t).token), credentials).oauthError(t, 401, "invalid_client")
	})
}

// accessToken checks the claims of an access token. It verifies the token with the published keys,
// as a service behind the gateway can.
func accessToken(t *testing.T, s *service) {
	p := s.register(t)
	var meta map[string]any
	s.call(t, "GET", "/.well-known/oauth-authorization-server").want(t, 200).into(t, &meta)
	// RFC 8414 section 3.1: the path of the issuer follows the path of the document.
	if issuer, err := url.Parse(meta["issuer"].(string)); err != nil || issuer.Path != "" {
		var same map[string]any
		s.call(t, "GET", "/.well-known/oauth-authorization-server"+issuer.Path).want(t, 200).into(t, &same)
		if !maps.EqualFunc(meta, same, func(a, b any) bool { return reflect.DeepEqual(a, b) }) {
			t.Errorf("the document for the issuer %s is %v, want %v", issuer, same, meta)
		}
	}
	s.call(t, "GET", "/.well-known/oauth-authorization-server/other").want(t, 404)
	a := s.call(t, "GET", "/.well-known/jwks.json")
	a.is(t, 200, shape{"keys": []any{shape{"kty": "OKP", "crv": "Ed25519", "kid": aText, "alg": "EdDSA", "use": "sig", "x": aText}}})
	if !strings.HasPrefix(a.header.Get("Cache-Control"), "public, max-age=") {
		t.Errorf("Cache-Control is %q", a.header.Get("Cache-Control"))
	}
	var set struct{ Keys []struct{ Kid, X string } }
	a.into(t, &set)
	x, err := base64.RawURLEncoding.DecodeString(set.Keys[0].X)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{}
	token, err := jwt.ParseWithClaims(p.token, claims, func(*jwt.Token) (any, error) { return ed25519.PublicKey(x), nil },
		jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithIssuer(meta["issuer"].(string)), jwt.WithAudience(meta["issuer"].(string)))
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "header", shape{"alg": "EdDSA", "typ": "at+jwt", "kid": set.Keys[0].Kid}, token.Header)
	number := matcher(func(v any) string {
		if f, ok := v.(float64); !ok || f != float64(int64(f)) {
			return "want whole seconds"
		}
		return ""
	})
	compare(t, "claims", shape{
		"iss": meta["issuer"], "aud": meta["issuer"], "sub": anID, "sid": s.currentID(t, p.token), "jti": anID, "client_id": aText,
		"iat": number, "exp": number, "auth_time": number, "amr": []any{"pwd"}, "username": p.username,
	}, map[string]any(claims))
	if life := claims["exp"].(float64) - claims["iat"].(float64); life != 3600 {
		t.Errorf("the lifetime of the token is %v s, want 3600 s", life)
	}
}

// After a refresh, the previous refresh token still works for the grace period of 30 seconds,
// because the client may not have received the reply.
func TestRefresh_PreviousTokenCountsAsStolenAfterGracePeriod_ASVS_V10_4_5(t *testing.T) {
	limits := app.Settings{AccessTokenTTL: time.Hour, SessionIdleTTL: 48 * time.Hour, SessionMaxTTL: 96 * time.Hour, RefreshGrace: 30 * time.Second}
	eachStore(t, limits, func(t *testing.T, s *service, c *clock) {
		p := s.register(t)
		start := c.Now()
		access, next := s.refreshed(t, p.refresh, 200)
		c.set(start.Add(30*time.Second - time.Millisecond))
		if _, again := s.refreshed(t, p.refresh, 200); again != next {
			t.Error("within the grace period, a repeated refresh returned another refresh token")
		}
		c.set(start.Add(30 * time.Second))
		s.refreshed(t, p.refresh, 400)
		if s.alive(t, access) || s.alive(t, p.token) {
			t.Error("an access token is accepted after the reuse of an old refresh token")
		}
		s.refreshed(t, next, 400)
	})
}
