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

// keyServer serves a key set, and counts how often it is asked.
type keyServer struct {
	*httptest.Server
	handler atomic.Pointer[http.HandlerFunc]
	asked   atomic.Int64
}

func startKeyServer(t *testing.T, set *KeySet) *keyServer {
	t.Helper()
	s := &keyServer{}
	s.serve(publicKeys(t, set))
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
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

// movingClock is a clock that is moved by hand.
type movingClock struct{ offset atomic.Int64 }

func (c *movingClock) Now() time.Time          { return issuedAt.Add(time.Duration(c.offset.Load())) }
func (c *movingClock) advance(d time.Duration) { c.offset.Add(int64(d)) }

// fetched returns a verifier on fetched keys. Whatever is well signed is good:
// here the keys are what matters.
func (s *keyServer) fetched(t *testing.T) (*Verifier, *keyFetcher, *movingClock) {
	t.Helper()
	clock := &movingClock{}
	f, err := newKeyFetcher(t.Context(), s.URL, RemoteOptions{Client: s.Client(), Log: slog.New(slog.DiscardHandler)}, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	c := testClaims()
	return &Verifier{Keys: f.ring, Issuer: c.Issuer, Audience: c.Audience, Now: func() time.Time { return issuedAt }}, f, clock
}

// signature is Verify without the store.
func (v *Verifier) signature(ctx context.Context, token string) error {
	_, err := v.verified(token, issuedAt)
	if errors.Is(err, errUnknownKey) {
		_, err = v.verifyWithNewer(ctx, token, issuedAt)
	}
	return err
}

func TestFetchedKeysVerifyAndDoNotSign(t *testing.T) {
	set := mustKeys(t, AlgEdDSA, AlgES256)
	v, f, _ := startKeyServer(t, set).fetched(t)
	if err := v.signature(t.Context(), mustSign(t, set, testClaims())); err != nil {
		t.Fatal(err)
	}
	if f.ring.Load().CanSign() {
		t.Error("fetched keys can sign")
	}
}

func TestKeyRotationIsFetched(t *testing.T) {
	old, rotated := mustKeys(t, AlgEdDSA), mustKeys(t, AlgES256)
	server := startKeyServer(t, old)
	v, f, clock := server.fetched(t)
	server.serve(publicKeys(t, rotated))
	token := mustSign(t, rotated, testClaims())
	if err := v.signature(t.Context(), token); !errors.Is(err, ErrInvalidToken) {
		t.Errorf("just after a fetch: %v, want ErrInvalidToken", err)
	}
	clock.advance(keyPause)
	if err := v.signature(t.Context(), token); err != nil {
		t.Errorf("the new key was not fetched: %v", err)
	}
	// What was taken back is gone.
	if err := v.signature(t.Context(), mustSign(t, old, testClaims())); !errors.Is(err, ErrInvalidToken) {
		t.Errorf("a key that was taken back: %v, want ErrInvalidToken", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	tick, ended := make(chan time.Time), make(chan struct{})
	go func() { defer close(ended); f.run(ctx, tick) }()
	server.serve(publicKeys(t, old))
	clock.advance(keyPause)
	tick <- time.Time{}
	tick <- time.Time{}
	if f.ring.Load().keys[0].ID != old.keys[0].ID {
		t.Error("nothing was fetched at a tick")
	}
	cancel()
	<-ended
}

func TestEqualKeysStayInUse(t *testing.T) {
	server := startKeyServer(t, mustKeys(t, AlgEdDSA))
	_, f, clock := server.fetched(t)
	before := f.ring.Load()
	clock.advance(keyPause)
	if err := f.renew(t.Context()); err != nil || server.asked.Load() != 2 {
		t.Fatalf("%v after %d fetches", err, server.asked.Load())
	}
	if f.ring.Load() != before {
		t.Error("an equal set was put in use, which empties the signature cache")
	}
}

func TestBadKeySetsChangeNothing(t *testing.T) {
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
	v, f, clock := server.fetched(t)
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
		{"a key of another kind", text(`{"keys":[{"kty":"RSA","kid":"a","alg":"RS256","n":"AQAB","e":"AQAB"}]}`)},
		{"a shared secret", text(string(shared))},
		{"a private key", text(string(private))},
		{"oversized", text(strings.TrimSuffix(publicKeys(t, mustKeys(t, AlgEdDSA)), "\n") + strings.Repeat(" ", maxRemoteBytes))},
		{"an error", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) }},
		{"a broken connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
	} {
		server.answer(c.answer)
		clock.advance(keyPause)
		if err := f.renew(t.Context()); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", c.name, err)
		}
		if f.ring.Load() != before || v.signature(t.Context(), token) != nil {
			t.Errorf("%s: the keys were not kept", c.name)
		}
		// Whose key it is cannot be told now, so that it is no 401.
		if err := v.signature(t.Context(), mustSign(t, mustKeys(t, AlgEdDSA), testClaims())); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrInvalidToken) {
			t.Errorf("%s: an unknown key gave %v, want ErrUnavailable", c.name, err)
		}
		if _, err := newKeyFetcher(t.Context(), server.URL, RemoteOptions{Client: server.Client(), Log: f.log}, clock.Now); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s: at start: %v, want ErrUnavailable", c.name, err)
		}
	}
	if other.asked.Load() != 0 {
		t.Error("a redirect was followed")
	}
	server.serve(publicKeys(t, set))
	clock.advance(keyPause)
	if err := f.renew(t.Context()); err != nil {
		t.Errorf("after it was mended: %v", err)
	}
}

// A set may hold keys for others, as RSA keys for what is not ours.
func TestKeysOfOtherKinds(t *testing.T) {
	set := mustKeys(t, AlgEdDSA)
	server := startKeyServer(t, set)
	body := strings.Replace(publicKeys(t, set), "[", `[{"kty":"RSA","kid":"a","alg":"RS256","n":"AQAB","e":"AQAB"},`, 1)
	server.serve(body)
	v, _, _ := server.fetched(t)
	if err := v.signature(t.Context(), mustSign(t, set, testClaims())); err != nil {
		t.Error(err)
	}
}

// Who names a key that nobody knows does not keep a request open for long.
func TestPatienceWithKeys(t *testing.T) {
	server := startKeyServer(t, mustKeys(t, AlgEdDSA))
	v, _, clock := server.fetched(t)
	server.answer(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	clock.advance(keyPause)
	start := time.Now()
	err := v.signature(t.Context(), mustSign(t, mustKeys(t, AlgEdDSA), testClaims()))
	if took := time.Since(start); !errors.Is(err, ErrUnavailable) || took > keyTimeout-keyPatience/2 {
		t.Errorf("answered %v after %v", err, took)
	}
	server.CloseClientConnections()
}

func TestFloodOfUnknownKeys(t *testing.T) {
	server := startKeyServer(t, mustKeys(t, AlgEdDSA))
	v, _, clock := server.fetched(t)
	var strangers []string
	for range 20 {
		strangers = append(strangers, mustSign(t, mustKeys(t, AlgEdDSA), testClaims()))
	}
	flood := func() {
		var wg sync.WaitGroup
		for i := range 500 {
			wg.Go(func() {
				if err := v.signature(t.Context(), strangers[i%len(strangers)]); !errors.Is(err, ErrInvalidToken) {
					t.Errorf("got %v, want ErrInvalidToken", err)
				}
			})
		}
		wg.Wait()
	}
	want := int64(1) // at start
	for range 5 {
		clock.advance(keyPause - time.Nanosecond)
		flood()
		if got := server.asked.Load(); got != want {
			t.Fatalf("%d fetches before the pause was over, want %d", got, want)
		}
		clock.advance(time.Nanosecond)
		flood()
		if want++; server.asked.Load() != want {
			t.Fatalf("%d fetches after the pause, want %d", server.asked.Load(), want)
		}
	}
}

// Of those who wait for one fetch, who has to leave leaves at once, and the
// others get what it brings.
func TestAFetchOutlivesWhoBeganIt(t *testing.T) {
	rotated := mustKeys(t, AlgEdDSA)
	server := startKeyServer(t, mustKeys(t, AlgEdDSA))
	v, _, clock := server.fetched(t)
	begun, proceed := make(chan struct{}), make(chan struct{})
	body := publicKeys(t, rotated)
	server.answer(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-proceed
		_, _ = w.Write([]byte(body))
	})
	clock.advance(keyPause)
	token := mustSign(t, rotated, testClaims())
	ctx, leave := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- v.signature(ctx, token) }()
	<-begun
	go func() { second <- v.signature(t.Context(), token) }()
	leave()
	if err := <-first; !errors.Is(err, context.Canceled) || errors.Is(err, ErrInvalidToken) {
		t.Errorf("who left got %v", err)
	}
	close(proceed)
	if err := <-second; err != nil {
		t.Errorf("who stayed got %v", err)
	}
}

func TestFetchKeysRefuses(t *testing.T) {
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
		if err := o.check(o.url); err != nil {
			t.Errorf("%s: %v", o.url, err)
		}
	}
}
