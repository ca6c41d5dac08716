package session

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// keyServer serves a key set and counts the requests.
type keyServer struct {
	*httptest.Server
	handler atomic.Pointer[http.HandlerFunc]
	fetches atomic.Int64
}

func startKeyServer(t *testing.T, set *KeySet) *keyServer {
	t.Helper()
	s := &keyServer{}
	s.serve(publicKeys(t, set))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fetches.Add(1)
		(*s.handler.Load())(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) answer(h http.HandlerFunc) { s.handler.Store(&h) }

func (s *keyServer) serve(body string) {
	s.answer(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) })
}

func publicKeys(t testing.TB, set *KeySet) string {
	t.Helper()
	data, err := set.PublicJSON(issuedAt)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// movingClock is a clock that a test moves.
type movingClock struct{ offset atomic.Int64 }

func (c *movingClock) Now() time.Time          { return issuedAt.Add(time.Duration(c.offset.Load())) }
func (c *movingClock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// verifier returns a verifier whose keys were fetched from the server.
func (s *keyServer) verifier(t *testing.T) (*Verifier, *keyFetcher, *movingClock) {
	t.Helper()
	clock := &movingClock{}
	f, err := newKeyFetcher(t.Context(), s.URL, RemoteOptions{Client: s.Client(), Log: slog.New(slog.DiscardHandler)}, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	c := testClaims()
	return &Verifier{Keys: f.ring, Issuer: c.Issuer, Audience: c.Audience[0], Now: func() time.Time { return issuedAt }}, f, clock
}

// verifySignature is like Verify, but does not ask the store.
func (v *Verifier) verifySignature(ctx context.Context, token string) error {
	_, err := v.verified(token, issuedAt)
	if errors.Is(err, errUnknownKey) {
		_, err = v.verifyWithNewer(ctx, token, issuedAt)
	}
	return err
}

func TestFetchKeys_FetchedKeysCannotSign(t *testing.T) {
	set := mustKeys(t, AlgEdDSA, AlgES256)
	v, f, _ := startKeyServer(t, set).verifier(t)
	if err := v.verifySignature(t.Context(), mustSign(t, set, testClaims())); err != nil {
		t.Fatal(err)
	}
	if f.ring.Load().CanSign() {
		t.Error("fetched keys can sign")
	}
}

func TestFetchKeys_LearnsNewKeysAndForgetsRemovedKeys(t *testing.T) {
	old, rotated := mustKeys(t, AlgEdDSA), mustKeys(t, AlgES256)
	server := startKeyServer(t, old)
	v, f, clock := server.verifier(t)
	server.serve(publicKeys(t, rotated))
	token := mustSign(t, rotated, testClaims())
	if err := v.verifySignature(t.Context(), token); !errors.Is(err, ErrInvalidToken) {
		t.Errorf("a token of a new key, directly after a fetch: got %v, want ErrInvalidToken", err)
	}
	clock.advance(minFetchInterval)
	if err := v.verifySignature(t.Context(), token); err != nil {
		t.Errorf("a token of a new key, after minFetchInterval: %v", err)
	}
	if err := v.verifySignature(t.Context(), mustSign(t, old, testClaims())); !errors.Is(err, ErrInvalidToken) {
		t.Errorf("a token of a removed key: got %v, want ErrInvalidToken", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	tick, ended := make(chan time.Time), make(chan struct{})
	go func() { defer close(ended); f.run(ctx, tick) }()
	server.serve(publicKeys(t, old))
	clock.advance(minFetchInterval)
	tick <- time.Time{}
	tick <- time.Time{}
	if f.ring.Load().keys[0].ID != old.keys[0].ID {
		t.Error("the keys were not fetched at a tick")
	}
	cancel()
	<-ended
}

func TestFetchKeys_DoesNotReplaceUnchangedKeySet(t *testing.T) {
	server := startKeyServer(t, mustKeys(t, AlgEdDSA))
	_, f, clock := server.verifier(t)
	before := f.ring.Load()
	clock.advance(minFetchInterval)
	if err := f.update(t.Context()); err != nil || server.fetches.Load() != 2 {
		t.Fatalf("got error %v and %d fetches, want none and 2", err, server.fetches.Load())
	}
	if f.ring.Load() != before {
		t.Error("an equal key set replaced the set in use, which makes the signature cache useless")
	}
}

func TestFetchKeys_KeepsOldKeysAfterBadResponse(t *testing.T) {
	set := mustKeys(t, AlgEdDSA)
	private, err := mustKeys(t, AlgEdDSA).PrivateJSON()
	if err != nil {
		t.Fatal(err)
	}
	shared, err := mustKeys(t, AlgHS256).PrivateJSON()
	if err != nil {
		t.Fatal(err)
	}
	server := startKeyServer(t, set)
	v, f, clock := server.verifier(t)
	other := startKeyServer(t, mustKeys(t, AlgEdDSA))
	text := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
	}
	token, before := mustSign(t, set, testClaims()), f.ring.Load()
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
	}{
		{"not JSON", text("<html>")},
		{"no key", text(`{"keys":[]}`)},
		{"no usable key", text(`{"keys":[{"kty":"RSA","kid":"a","alg":"RS256","n":"AQAB","e":"AQAB"}]}`)},
		{"a shared secret", text(string(shared))},
		{"a private key", text(string(private))},
		{"oversized", text(strings.TrimSuffix(publicKeys(t, mustKeys(t, AlgEdDSA)), "\n") + strings.Repeat(" ", maxRemoteBytes))},
		{"an error", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }},
		{"a broken connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		server.answer(c.answer)
		clock.advance(minFetchInterval)
		if err := f.update(t.Context()); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: the fetch returned %v, want ErrUnavailable", c.name, err)
		}
		if f.ring.Load() != before || v.verifySignature(t.Context(), token) != nil {
			t.Errorf("%s: the keys were not kept", c.name)
		}
		// The unknown key may be newer than the fetched keys, so the token must not be answered
		// with 401.
		if err := v.verifySignature(t.Context(), mustSign(t, mustKeys(t, AlgEdDSA), testClaims())); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrInvalidToken) {
			t.Errorf("%s: a token of an unknown key: got %v, want ErrUnavailable", c.name, err)
		}
		if _, err := newKeyFetcher(t.Context(), server.URL, RemoteOptions{Client: server.Client(), Log: f.log}, clock.Now); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: the first fetch returned %v, want ErrUnavailable", c.name, err)
		}
	}
	if other.fetches.Load() != 0 {
		t.Error("a redirect was followed")
	}
	server.serve(publicKeys(t, set))
	clock.advance(minFetchInterval)
	if err := f.update(t.Context()); err != nil {
		t.Errorf("the fetch after the server recovered: %v", err)
	}
}

// A published key set may also contain keys for other purposes, which FetchKeys must skip.
func TestFetchKeys_SkipsKeysOfUnsupportedKinds(t *testing.T) {
	set := mustKeys(t, AlgEdDSA)
	server := startKeyServer(t, set)
	body := strings.Replace(publicKeys(t, set), "[", `[{"kty":"RSA","kid":"a","alg":"RS256","n":"AQAB","e":"AQAB"},`, 1)
	server.serve(body)
	v, _, _ := server.verifier(t)
	if err := v.verifySignature(t.Context(), mustSign(t, set, testClaims())); err != nil {
		t.Error(err)
	}
}

// Without the limit, anybody could hold requests open with tokens that name unknown keys.
func TestVerify_WaitsAtMostOneSecondForNewKeys(t *testing.T) {
	server := startKeyServer(t, mustKeys(t, AlgEdDSA))
	v, _, clock := server.verifier(t)
	server.answer(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	clock.advance(minFetchInterval)
	start := time.Now()
	err := v.verifySignature(t.Context(), mustSign(t, mustKeys(t, AlgEdDSA), testClaims()))
	if took := time.Since(start); !errors.Is(err, ErrUnavailable) || took > fetchTimeout-maxFetchWait/2 {
		t.Errorf("got %v after %v", err, took)
	}
	server.CloseClientConnections()
}

func TestVerify_FetchesKeysOnceForManyTokensWithUnknownKeys(t *testing.T) {
	server := startKeyServer(t, mustKeys(t, AlgEdDSA))
	v, _, clock := server.verifier(t)
	var unknown []string
	for range 20 {
		unknown = append(unknown, mustSign(t, mustKeys(t, AlgEdDSA), testClaims()))
	}
	flood := func() {
		var wg sync.WaitGroup
		for i := range 500 {
			wg.Go(func() {
				if err := v.verifySignature(t.Context(), unknown[i%len(unknown)]); !errors.Is(err, ErrInvalidToken) {
					t.Errorf("got %v, want ErrInvalidToken", err)
				}
			})
		}
		wg.Wait()
	}
	want := int64(1) // newKeyFetcher has fetched the keys once
	for range 5 {
		clock.advance(minFetchInterval - time.Nanosecond)
		flood()
		if got := server.fetches.Load(); got != want {
			t.Fatalf("%d fetches within minFetchInterval, want %d", got, want)
		}
		clock.advance(time.Nanosecond)
		flood()
		if want++; server.fetches.Load() != want {
			t.Fatalf("%d fetches after minFetchInterval, want %d", server.fetches.Load(), want)
		}
	}
}

// A caller that gives up a fetch returns at once. Callers that share the fetch still get its
// result.
func TestFetchKeys_FinishesFetchAfterCallerGaveUp(t *testing.T) {
	rotated := mustKeys(t, AlgEdDSA)
	server := startKeyServer(t, mustKeys(t, AlgEdDSA))
	v, _, clock := server.verifier(t)
	begun, proceed := make(chan struct{}), make(chan struct{})
	body := publicKeys(t, rotated)
	server.answer(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-proceed
		_, _ = w.Write([]byte(body))
	})
	clock.advance(minFetchInterval)
	token := mustSign(t, rotated, testClaims())
	ctx, leave := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- v.verifySignature(ctx, token) }()
	<-begun
	go func() { second <- v.verifySignature(t.Context(), token) }()
	leave()
	if err := <-first; !errors.Is(err, context.Canceled) || errors.Is(err, ErrInvalidToken) {
		t.Errorf("the caller that gave up: %v", err)
	}
	close(proceed)
	if err := <-second; err != nil {
		t.Errorf("the caller that waited: %v", err)
	}
}

func TestFetchKeys_RefusesContextWithDeadlineAndUnsafeURL(t *testing.T) {
	server := startKeyServer(t, mustKeys(t, AlgEdDSA))
	timed, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if _, err := FetchKeys(timed, server.URL, RemoteOptions{}); err == nil || !strings.Contains(err.Error(), "deadline") {
		t.Errorf("a context with a deadline: %v", err)
	}
	for _, url := range []string{"", "jwks.json", "http://id.example/jwks.json", "http://127.0.0.1.example/", "ftp://localhost/", "https://ada:secret@id.example/", "https://", "http://[::1"} {
		if _, err := FetchKeys(t.Context(), url, RemoteOptions{}); err == nil || errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", url, err)
		}
	}
	for _, o := range []struct {
		url string
		RemoteOptions
	}{
		{"https://id.example/jwks.json", RemoteOptions{}},
		{"http://localhost:1/", RemoteOptions{}},
		{"http://[::1]:1/", RemoteOptions{}},
		{"http://sessiond/", RemoteOptions{AllowPlaintext: true}},
	} {
		if err := o.checkURL(o.url); err != nil {
			t.Errorf("%s: %v", o.url, err)
		}
	}
}
