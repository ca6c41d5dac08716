package stage

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/cmd/sessionbench/load"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
)

// space returns an empty numbered database of the Redis server that the tests use.
func space(t *testing.T) *Space {
	t.Helper()
	options, err := redis.ParseURL(redisstoretest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { client.Close() })
	return &Space{client, redisstoretest.URL(t)}
}

// The comparison with the plain design is fair only if the plain design really checks tokens.
func TestPlainHandler_AcceptsOnlyTokensOfLiveSessions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	keys := makeKeys(path)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sp := space(t)
	handler := plainHandler(data, sp.Client)
	status := func(header string) int {
		r := httptest.NewRequest(http.MethodGet, load.CheckPath, nil)
		r.Header.Set("Authorization", header)
		w := httptest.NewRecorder()
		handler(w, r)
		return w.Code
	}
	now := time.Now()
	sign := func(keys *session.KeySet, sid, jti string, expires time.Time) string {
		token, err := keys.Sign(&session.Claims{Issuer: issuerURL, Audience: []string{issuerURL}, Subject: "u", SessionID: sid, TokenID: jti, IssuedAt: now, ExpiresAt: expires})
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + token
	}
	sp.Client.Set(t.Context(), plainSession("live"), "1", time.Minute)
	sp.Client.Set(t.Context(), plainBlacklist("revoked"), "1", time.Minute)
	later := now.Add(time.Hour)
	for alg, k := range keys {
		for _, c := range []struct {
			name, token string
			want        int
		}{
			{"accepts a live session", sign(k, "live", "t", later), 200},
			{"refuses an unknown session", sign(k, "none", "t", later), 401},
			{"refuses a token on the blacklist", sign(k, "live", "revoked", later), 401},
			{"refuses an expired token", sign(k, "live", "t", now.Add(-time.Hour)), 401},
			{"refuses a token signed with an unknown key", sign(makeKeys(path)[alg], "live", "t", later), 401},
			{"refuses a request without a token", "", 401},
			{"refuses the Basic scheme", "Basic abc", 401},
			{"refuses a malformed JWT", "Bearer abc", 401},
		} {
			t.Run(c.name+" with "+alg, func(t *testing.T) {
				if got := status(c.token); got != c.want {
					t.Errorf("status %d, want %d", got, c.want)
				}
			})
		}
	}
}

func TestMint_VerifierAcceptsAllTokens(t *testing.T) {
	s := &Stage{dir: t.TempDir(), Say: t.Logf}
	s.Keys = makeKeys(s.keysFile())
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	sp := space(t)
	many, one := NewSessions(3, false), NewSessions(3, true)
	s.Fill(t.Context(), sp.URL, many)
	s.Fill(t.Context(), sp.URL, one)
	refs := append(many, one...)
	v, _ := s.Verifier(sp.URL, redisstore.Options{LookTimeout: load.Patience})
	for alg := range s.Keys {
		seen := map[string]bool{}
		for i, r := range s.Keys.Mint(t.Context(), alg, refs, 2*len(refs)) {
			claims, err := v.Verify(t.Context(), r.Token)
			if err != nil || claims.SessionID != refs[i%len(refs)].SessionID || claims.SessionID != r.Session {
				t.Errorf("%s, request %d: %+v, %v", alg, i, claims, err)
			}
			if seen[claims.TokenID] {
				t.Errorf("%s: two tokens have the same jti", alg)
			}
			seen[claims.TokenID] = true
		}
	}
}
