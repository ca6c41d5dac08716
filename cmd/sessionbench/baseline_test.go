package main

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
)

// The plain design is one that somebody could run: it tells good tokens from bad.
func TestPlain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := writeKeys(path); err != nil {
		t.Fatal(err)
	}
	ks, err := readKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	options, err := redis.ParseURL(redisstoretest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	defer client.Close()
	handler := plainHandler(ks, client, "p:")
	status := func(header string) int {
		r := httptest.NewRequest(http.MethodGet, checkPath, nil)
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Code
	}
	const live, revoked = "live", "revoked"
	client.Set(t.Context(), plainSession("p:", live), "1", time.Minute)
	client.Set(t.Context(), plainBlacklist("p:", revoked), "1", time.Minute)
	now := time.Now()
	mint := func(k key, ref session.Ref, at time.Time) string {
		token, err := k.mint(ref, at)
		if err != nil {
			t.Fatal(err)
		}
		return "Bearer " + token
	}
	stranger := ks[session.AlgEdDSA]
	stranger.method, stranger.private = ks[session.AlgHS256].method, []byte("a secret of somebody else's")
	for alg, k := range ks {
		for name, c := range map[string]struct {
			ref  session.Ref
			at   time.Time
			want int
		}{
			"live":            {session.Ref{Subject: "u", SessionID: live, TokenID: "t"}, now, 200},
			"unknown session": {session.Ref{Subject: "u", SessionID: "none", TokenID: "t"}, now, 401},
			"blacklisted":     {session.Ref{Subject: "u", SessionID: live, TokenID: revoked}, now, 401},
			"expired":         {session.Ref{Subject: "u", SessionID: live, TokenID: "t"}, now.Add(-2 * tokenTTL), 401},
		} {
			if got := status(mint(k, c.ref, c.at)); got != c.want {
				t.Errorf("%s, %s: status %d, want %d", alg, name, got, c.want)
			}
		}
	}
	forged := mint(stranger, session.Ref{Subject: "u", SessionID: live, TokenID: "t"}, now)
	for name, header := range map[string]string{"forged": forged, "no token": "", "no bearer": "Basic abc", "no JWT": "Bearer abc"} {
		if got := status(header); got != 401 {
			t.Errorf("%s: status %d", name, got)
		}
	}
}

// The tokens that are made here are those that the service makes.
func TestMintedTokensAreOurs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := writeKeys(path); err != nil {
		t.Fatal(err)
	}
	s := &stage{keysFile: path}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	sp, err := openSpace(redisstoretest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	refs := append(newSessions(3), sessionsOfOne(3)...)
	if err := sp.fill(t.Context(), refs[:3], func(int) {}); err != nil {
		t.Fatal(err)
	}
	if err := sp.fill(t.Context(), refs[3:], func(int) {}); err != nil {
		t.Fatal(err)
	}
	v, err := s.verifier(sp, redisstore.Options{LookTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	ks, err := readKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	for alg, k := range ks {
		requests, err := k.mintAll(t.Context(), refs, 2*len(refs))
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for i, r := range requests {
			claims, err := v.Verify(t.Context(), r.token)
			if err != nil || claims.SessionID != refs[i%len(refs)].SessionID || claims.SessionID != r.session {
				t.Errorf("%s, request %d: %+v, %v", alg, i, claims, err)
			}
			if seen[claims.TokenID] {
				t.Errorf("%s: two tokens have the same jti", alg)
			}
			seen[claims.TokenID] = true
		}
	}
	if err := sp.close(t.Context()); err != nil {
		t.Error(err)
	}
}
