package httpsuite

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
	"github.com/sessiond/sessiond/session"
)

// badToken is a request with an access token that is missing, invalid or sent in a wrong way.
type badToken struct {
	name  string
	opts  []option
	error bool // whether the response must call the token invalid (true) or missing (false)
}

// badTokens returns requests that every protected route must refuse with 401. It makes them from
// the valid access tokens of two users, p and q, and from a revoked access token.
func badTokens(t *testing.T, p, q person, revoked string) []badToken {
	t.Helper()
	header64, rest, _ := strings.Cut(p.token, ".")
	payload64, signature, _ := strings.Cut(rest, ".")
	_, rest, _ = strings.Cut(q.token, ".")
	payloadQ, _, _ := strings.Cut(rest, ".")
	flipped := "A" + signature[1:]
	if signature[0] == 'A' {
		flipped = "B" + signature[1:]
	}
	key, err := session.GenerateKey(session.AlgEdDSA)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims(claimsOf(t, p.token))
	unsigned := jwt.NewWithClaims(jwt.SigningMethodNone, claims)
	unsigned.Header["typ"] = "at+jwt"
	none, err := unsigned.SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	symmetric := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	symmetric.Header["typ"], symmetric.Header["kid"] = "at+jwt", key.ID
	hs256, err := symmetric.SignedString([]byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	expired := maps.Clone(claims)
	expired["exp"] = time.Now().Add(-time.Hour).Unix()
	data, err := json.Marshal(expired)
	if err != nil {
		t.Fatal(err)
	}
	expired64 := base64.RawURLEncoding.EncodeToString(data)

	list := []badToken{
		{"no token", nil, false},
		{"the Basic scheme", []option{header("Authorization", "Basic "+p.token)}, false},
		{"no scheme", []option{header("Authorization", p.token)}, false},
		{"a token in the query", []option{func(r *http.Request) { addQuery(r, "access_token="+p.token) }}, false},
		{"a token in a cookie", []option{header("Cookie", "token="+p.token+"; x-auth-token="+p.token+"; access_token="+p.token)}, false},
		{"a token in X-Auth-Token", []option{header("X-Auth-Token", p.token)}, false},
		{"two Authorization headers", []option{func(r *http.Request) {
			r.Header["Authorization"] = []string{"Bearer " + p.token, "Bearer " + p.token}
		}}, true},
	}
	for name, token := range map[string]string{
		"an empty token": "", "garbage": "garbage", "only dots": "..", "three letters": "a.b.c", "a truncated token": p.token[:len(p.token)-1],
		"a token without signature": header64 + "." + payload64 + ".", "a changed signature": header64 + "." + payload64 + "." + flipped,
		"the payload of another token": header64 + "." + payloadQ + "." + signature, "an expired payload": header64 + "." + expired64 + "." + signature,
		"the none algorithm": none, "a symmetric algorithm": hs256, "base64 padding": p.token + "=", "a fourth part": p.token + ".", "a token twice": p.token + " " + p.token,
		"a trailing comma": p.token + ",", "10 KB": strings.Repeat("x", 10<<10), "a refresh token": p.refresh, "a character outside ASCII": "ü" + p.token,
		"a revoked token": revoked,
	} {
		list = append(list, badToken{name, []option{bearer(token)}, true})
	}
	return list
}

func addQuery(r *http.Request, query string) {
	if r.URL.RawQuery != "" {
		query = r.URL.RawQuery + "&" + query
	}
	r.URL.RawQuery = query
}

// wantUnauthorized fails the test unless every protected route returns 401 for this bad access
// token.
func (s *service) wantUnauthorized(t *testing.T, m badToken, username, id string) {
	t.Helper()
	for _, r := range everyRoute() {
		if !r.protected {
			continue
		}
		path := r.at(id)
		if strings.Contains(r.params, "username") {
			path += "?username=" + username
		}
		opts := m.opts
		if r.fields != "" {
			opts = append([]option{jsonBody(shape{"username": username, "password": goodPassword, "first_name": "X"})}, opts...)
		}
		a := s.call(t, r.method, path, opts...).patient(t)
		if a.status != http.StatusUnauthorized {
			t.Errorf("%s %s with %s: status %d, want 401", r.method, r.path, m.name, a.status)
			continue
		}
		code := "no_token"
		if m.error {
			code = "invalid_token"
		}
		a.problem(t, r.kind == classic, 401, code)
		if challenge := a.header.Get("WWW-Authenticate"); strings.Contains(challenge, "error=") != m.error ||
			m.error && !strings.Contains(challenge, `error="invalid_token"`) {
			t.Errorf("%s %s with %s: challenge %q", r.method, r.path, m.name, challenge)
		}
	}
}

func TestProtectedRoutes_Return401ForBadToken_ASVS_V2_3_1_V7_2_1_V7_2_2_V7_4_2_V8_2_1_V8_3_1(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p, q := s.register(t), s.register(t)
		revoked := s.login(t, p)
		s.call(t, "DELETE", "/logout", bearer(revoked)).want(t, 200)
		id := s.currentID(t, p.token)
		for _, m := range badTokens(t, p, q, revoked) {
			t.Run("returns 401 for "+m.name, func(t *testing.T) { s.wantUnauthorized(t, m, p.username, id) })
		}
		if !s.alive(t, p.token) || !s.alive(t, q.token) {
			t.Error("a bad token revoked a session")
		}
		s.login(t, p)

		s.call(t, "DELETE", "/deleteUser?username="+q.username, bearer(q.token)).want(t, 200)
		s.wantUnauthorized(t, badToken{"the token of a deleted user", []option{bearer(q.token)}, true}, p.username, id)
	})
}

func TestProtectedRoutes_RefuseToken31SecondsAfterItsExpiry_ASVS_V9_2_1(t *testing.T) {
	limits := app.Settings{AccessTokenTTL: time.Hour, SessionIdleTTL: 48 * time.Hour, SessionMaxTTL: 96 * time.Hour}
	eachStore(t, limits, func(t *testing.T, s *service, c *clock) {
		p := s.register(t)
		id := s.currentID(t, p.token)
		c.set(c.Now().Add(time.Hour))
		if !s.alive(t, p.token) {
			t.Error("a token is refused less than 30 s after its expiry")
		}
		c.set(c.Now().Add(31 * time.Second))
		s.wantUnauthorized(t, badToken{"an expired token", []option{bearer(p.token)}, true}, p.username, id)
		if token, _ := s.refreshed(t, p.refresh, 200); !s.alive(t, token) {
			t.Error("the access token from a refresh is refused after the previous one has expired")
		}
	})
}
