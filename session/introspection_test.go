package session_test

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessiond/sessiond/api"
	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/clients"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/session/issuer/issuertest"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// The characters of this id and secret arrive unchanged only if client and server form-encode them.
const introspectorID, introspectorSecret = "billing:eu", "a+b c%:ü"

func introspectAt(t *testing.T, server *httptest.Server, path, secret string) *session.Introspection {
	t.Helper()
	i, err := session.NewIntrospection(server.URL+path, introspectorID, secret, session.RemoteOptions{Client: server.Client()})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

var question = session.Question{
	Token: "header.payload.signature", Ref: session.Ref{Subject: "sub-1", SessionID: "sid-1", TokenID: "jti-1"}, StoreUp: true,
}

func TestIntrospection_ReturnsErrRevokedOnlyIfResponseSaysInactive(t *testing.T) {
	var answer atomic.Pointer[http.HandlerFunc]
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t.Error("the client followed a redirect")
	}))
	defer elsewhere.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		if r.Method != http.MethodPost || id != url.QueryEscape(introspectorID) || secret != url.QueryEscape(introspectorSecret) ||
			r.FormValue("token") != question.Token || r.URL.RawQuery != "" {
			t.Errorf("unexpected request %s %s by %q with %v", r.Method, r.URL, id, r.PostForm)
		}
		(*answer.Load())(w, r)
	}))
	defer server.Close()
	i := introspectAt(t, server, "/oauth/introspect", introspectorSecret)
	send := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status); _, _ = io.WriteString(w, body) }
	}
	const good = `{"active":true,"sub":"sub-1","sid":"sid-1","jti":"jti-1","iss":"i","username":"ada"`
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   error
	}{
		{"active", send(200, good+"}"), nil},
		{"inactive", send(200, `{"active":false}`), session.ErrRevoked},
		// A response that does not clearly say that the token is inactive must not sign anybody
		// out.
		{"no member active", send(200, `{}`), session.ErrUnavailable},
		{"active is null", send(200, `{"active":null}`), session.ErrUnavailable},
		{"active is a string", send(200, `{"active":"false"}`), session.ErrUnavailable},
		{"active appears twice", send(200, `{"active":false,"active":true}`), session.ErrUnavailable},
		{"another subject", send(200, `{"active":true,"sub":"sub-2","sid":"sid-1","jti":"jti-1"}`), session.ErrUnavailable},
		{"another session", send(200, `{"active":true,"sub":"sub-1","sid":"sid-2","jti":"jti-1"}`), session.ErrUnavailable},
		{"another token", send(200, `{"active":true,"sub":"sub-1","sid":"sid-1","jti":"jti-2"}`), session.ErrUnavailable},
		{"no token is named", send(200, `{"active":true}`), session.ErrUnavailable},
		{"not JSON", send(200, "<html>sign in</html>"), session.ErrUnavailable},
		{"data after the JSON", send(200, good+"}}"), session.ErrUnavailable},
		{"truncated", send(200, good), session.ErrUnavailable},
		{"an empty body", send(200, ""), session.ErrUnavailable},
		{"a body above the maximum", send(200, good+"}"+strings.Repeat(" ", 64<<10)), session.ErrUnavailable},
		{"status 201", send(201, good+"}"), session.ErrUnavailable},
		{"inactive with status 400", send(400, `{"active":false}`), session.ErrUnavailable},
		{"status 401", send(401, `{"error":"invalid_client"}`), session.ErrUnavailable},
		{"status 429", send(429, ""), session.ErrUnavailable},
		{"status 500", send(500, ""), session.ErrUnavailable},
		{"status 503", send(503, ""), session.ErrUnavailable},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		}, session.ErrUnavailable},
		{"a broken connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, session.ErrUnavailable},
	} {
		answer.Store(&c.answer)
		_, err := i.Check(t.Context(), question)
		isVerdict := errors.Is(err, session.ErrRevoked) || errors.Is(err, session.ErrInvalidToken)
		if !errors.Is(err, c.want) || isVerdict != errors.Is(c.want, session.ErrRevoked) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if err != nil && (strings.Contains(err.Error(), introspectorSecret) || strings.Contains(err.Error(), question.Token)) {
			t.Errorf("%s: the error contains a secret: %v", c.name, err)
		}
	}
}

func TestIntrospection_CheckBeyondLimitOrTimeoutReturnsErrUnavailable(t *testing.T) {
	proceed := make(chan struct{})
	arrived := make(chan struct{}, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-proceed
		_, _ = io.WriteString(w, `{"active":false}`)
	}))
	defer server.Close()
	i := introspectAt(t, server, "", introspectorSecret)
	i.Limit, i.Timeout = session.NewLimit(2), time.Minute
	errs := make(chan error, 2)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			_, err := i.Check(t.Context(), question)
			errs <- err
		})
		<-arrived
	}
	if _, err := i.Check(t.Context(), question); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("a check beyond the limit: got %v, want ErrUnavailable", err)
	}
	if len(arrived) != 0 {
		t.Error("a check beyond the limit sent a request")
	}
	close(proceed)
	wg.Wait()
	for range 2 {
		if err := <-errs; !errors.Is(err, session.ErrRevoked) {
			t.Errorf("a check within the limit: got %v, want ErrRevoked", err)
		}
	}

	i.Timeout = time.Millisecond
	proceed = make(chan struct{})
	defer close(proceed)
	if _, err := i.Check(t.Context(), question); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("a response after the timeout: got %v, want ErrUnavailable", err)
	}
}

// The verifier shares a store with sessiond and calls sessiond's real introspection route. It has
// no access to sessiond's database.
func TestIntrospection_AcceptsAndRefusesTokensThroughRealRoute(t *testing.T) {
	w := issuertest.New(t, sqlstoretest.New(t), redisstoretest.New(t))
	m := w.Replicas[0]
	requests := atomic.Int64{}
	service := (&api.API{
		Sessions: m, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Users: &identity.Service{},
		Clients: &clients.Registry{Now: time.Now, File: map[string]clients.Client{introspectorID: {
			ID: introspectorID, Scopes: []clients.Scope{clients.Introspect}, SecretHash: clients.HashOf(introspectorSecret),
		}}},
	}).Handler()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		service.ServeHTTP(w, r)
	}))
	defer server.Close()
	verifier := m.Verifier
	verifier.Fallback = introspectAt(t, server, "/oauth/introspect", introspectorSecret)

	set, s := w.Start(t)
	for range 3 {
		if c, err := verifier.Verify(t.Context(), set.AccessToken); err != nil || c.SessionID != s.ID {
			t.Fatal(err)
		}
	}
	if requests.Load() != 1 {
		t.Errorf("%d introspection requests, want 1", requests.Load())
	}
	if _, err := m.Revoke(t.Context(), w.User.ID, s.ID, issuer.ReasonRevoked); err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.Verify(t.Context(), set.AccessToken); !errors.Is(err, session.ErrRevoked) {
		t.Errorf("a revoked token: got %v, want ErrRevoked", err)
	}

	// The store does not know the next session, so only introspection can tell that it was revoked.
	set, s = w.Start(t)
	if _, err := m.Revoke(t.Context(), w.User.ID, s.ID, issuer.ReasonRevoked); err != nil {
		t.Fatal(err)
	}
	other := verifier
	other.Store = redisstoretest.New(t)
	if _, err := other.Verify(t.Context(), set.AccessToken); !errors.Is(err, session.ErrRevoked) {
		t.Errorf("a revoked token that the store does not know: got %v, want ErrRevoked", err)
	}
	set, _ = w.Start(t)
	other.Fallback = introspectAt(t, server, "/oauth/introspect", "wrong")
	if _, err := other.Verify(t.Context(), set.AccessToken); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("a client with a wrong secret: got %v, want ErrUnavailable", err)
	}
}

// A sessiond that answers 503 may be overloaded. A new connection for each check would add to its
// load.
func TestIntrospection_ReusesConnectionAfterStatus503(t *testing.T) {
	var opened atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, strings.Repeat("busy ", 1000))
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	i := introspectAt(t, server, "/oauth/introspect", introspectorSecret)
	for range 5 {
		if _, err := i.Check(t.Context(), question); !errors.Is(err, session.ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("5 requests used %d connections, want 1", n)
	}
}
