package app

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// logged is a log whose lines a test can wait for.
type logged struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote chan struct{} // gets a value after a write
}

func newLogged() *logged { return &logged{wrote: make(chan struct{}, 1)} }

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.wrote <- struct{}{}:
	default:
	}
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits for a line with this message, and returns the address in it.
func (l *logged) await(t *testing.T, message string) (addr string) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		for line := range strings.Lines(l.String()) {
			var entry struct{ Msg, Addr string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == message {
				return entry.Addr
			}
		}
		select {
		case <-l.wrote:
		case <-late:
			t.Fatalf("no line %q in the log:\n%s", message, l)
		}
	}
}

// serving is `sessiond serve` while it runs in a test.
type serving struct {
	log  *logged
	stop context.CancelFunc
	done chan error
}

// startServe runs `sessiond serve` without Redis on the database at rawURL.
func startServe(t *testing.T, rawURL string) serving {
	t.Helper()
	keys := filepath.Join(t.TempDir(), "keys.json")
	if err := writeKey(keys, session.AlgEdDSA); err != nil {
		t.Fatal(err)
	}
	env := environment("DATABASE_URL="+rawURL, "REDIS_URL=redis://127.0.0.1:1", "SIGNING_KEYS_FILE="+keys,
		"ISSUER=https://id.example", "PUBLIC_URL=https://id.example", "ADDR=127.0.0.1:0", "METRICS_ADDR=")
	ctx, stop := context.WithCancel(t.Context())
	s := serving{newLogged(), stop, make(chan error, 1)}
	go func() { s.done <- Run(ctx, []string{"serve"}, env, s.log, io.Discard) }()
	t.Cleanup(stop)
	return s
}

// end waits until serve has ended and returns its error.
func (s serving) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.done:
		return err
	case <-time.After(time.Minute):
		t.Fatalf("serve does not end; its log:\n%s", s.log)
		return nil
	}
}

// request returns the status, the header Retry-After and the body of a response.
func request(t *testing.T, method, url string) (status int, retryAfter, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	response, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header.Get("Retry-After"), string(text)
}

// unused returns a URL of the database at a port where nobody listens, and the port's address.
func unused(t *testing.T, rawURL string) (moved, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr = l.Addr().String()
	_ = l.Close()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = addr
	return u.String(), addr
}

// forward accepts connections at addr and forwards them to target.
func forward(t *testing.T, addr, target string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				t.Error(err)
				_ = client.Close()
				return
			}
			for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
				group.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					_ = pair[0].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		group.Wait()
	})
}

func TestServe_WaitsForDatabase(t *testing.T) {
	rawURL := sqlstoretest.PostgresURL(t)
	if err := Run(t.Context(), []string{"migrate"}, environment("DATABASE_URL="+rawURL), io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	moved, addr := unused(t, rawURL)
	s := startServe(t, moved)
	base := "http://" + s.log.await(t, "waiting for the database")
	for range 2 {
		for _, c := range []struct {
			method, path string
			status       int
			body         string // a part of the body
		}{
			{"GET", "/livez", 200, `"ok"`},
			{"HEAD", "/livez", 200, ""},
			{"GET", "/readyz", 503, `"database":"unavailable"`},
			{"POST", "/loginUser", 503, `"message":`},
			{"POST", "/v1/sessions", 503, `"code":"unavailable"`},
			{"POST", "/oauth/token", 503, `"error":"temporarily_unavailable"`},
			{"GET", "/v1/verify/any/path", 503, `"code":"unavailable"`},
			{"DELETE", "/nothing/here", 503, `"code":"unavailable"`},
		} {
			status, retryAfter, body := request(t, c.method, base+c.path)
			if status != c.status || (retryAfter != "") != (c.status == 503) || !strings.Contains(body, c.body) {
				t.Errorf("%s %s: got %d, Retry-After %q, %s; want %d with %s", c.method, c.path, status, retryAfter, body, c.status, c.body)
			}
		}
	}
	forward(t, addr, u.Host)
	s.log.await(t, "the database answers")
	s.log.await(t, "serving")
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/v1/users/me": 401} {
		if status, _, body := request(t, "GET", base+path); status != want {
			t.Errorf("with the database, %s is %d: %s; want %d", path, status, body, want)
		}
	}
	s.stop()
	if err := s.end(t); err != nil {
		t.Error(err)
	}
	for _, message := range []string{"waiting for the database", "the database answers"} {
		if n := strings.Count(s.log.String(), message); n != 1 {
			t.Errorf("the log has %d lines %q, want 1:\n%s", n, message, s.log)
		}
	}
}

func TestServe_StopsWhileItWaitsForDatabase(t *testing.T) {
	moved, _ := unused(t, sqlstoretest.PostgresURL(t))
	s := startServe(t, moved)
	s.log.await(t, "waiting for the database")
	s.stop()
	if err := s.end(t); err != nil {
		t.Error(err)
	}
}

func TestServe_EndsIfDatabaseURLIsWrong(t *testing.T) {
	rawURL := sqlstoretest.PostgresURL(t)
	for name, change := range map[string]func(u *url.URL){
		"password": func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), "wrong") },
		"database": func(u *url.URL) { u.Path = "/no_such_database" },
	} {
		u, err := url.Parse(rawURL)
		if err != nil {
			t.Fatal(err)
		}
		change(u)
		err = startServe(t, u.String()).end(t)
		if err == nil || !strings.HasPrefix(err.Error(), "SESSIOND_DATABASE_URL: ") || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "\n") {
			t.Errorf("wrong %s: got %v, want one line", name, err)
		}
	}
}
