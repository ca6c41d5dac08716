package observability_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

const (
	password = "correct horse battery"
	// clientAddr is the address that the proxy in front of sessiond reports.
	clientAddr = "203.0.113.77"
)

// service is a sessiond process with users who sign in, check, refresh and revoke.
type service struct {
	base, metricsAddr string
	client            *http.Client

	mu      sync.Mutex
	persons []string // texts that name people: usernames, addresses, ids, tokens
}

// startService starts 'sessiond serve' on the Redis at redisURL. No mail server answers it, so its mails wait.
func startService(t *testing.T, redisURL string, settings ...string) *service {
	t.Helper()
	dir, addrs := t.TempDir(), freeAddrs(t, 2)
	program, keys := filepath.Join(dir, "sessiond"), filepath.Join(dir, "keys.json")
	env := append([]string{
		"PATH=" + os.Getenv("PATH"), "SESSIOND_DATABASE_URL=" + sqlstoretest.PostgresURL(t), "SESSIOND_REDIS_URL=" + redisURL,
		"SESSIOND_REDIS_PREFIX=t" + issuer.NewID() + ":", "SESSIOND_ISSUER=https://id.example", "SESSIOND_PUBLIC_URL=https://id.example",
		"SESSIOND_SIGNING_KEYS_FILE=" + keys, "SESSIOND_ADDR=" + addrs[0], "SESSIOND_METRICS_ADDR=" + addrs[1],
		"SESSIOND_SMTP_URL=smtp+plain://127.0.0.1:1", "SESSIOND_MAIL_FROM=id@example.com", "SESSIOND_TRUSTED_PROXIES=127.0.0.0/8",
	}, settings...)
	run(t, exec.Command("go", "build", "-o", program, "../../cmd/sessiond"))
	run(t, exec.Command(program, "keys", "new", "--out", keys))
	migrate, serve := exec.Command(program, "migrate"), exec.Command(program, "serve")
	migrate.Env, serve.Env = env, env
	run(t, migrate)
	start(t, serve)
	s := &service{base: "http://" + addrs[0], metricsAddr: addrs[1], client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	t.Cleanup(s.client.CloseIdleConnections)
	await(t, "sessiond to be ready", func() bool {
		resp, err := s.client.Get(s.base + "/readyz")
		return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
	})
	return s
}

// call sends a request from the client address and returns its status and the members of the JSON response.
func (s *service) call(ctx context.Context, from, method, path, token string, body any) (status int, members map[string]any) {
	var data []byte
	contentType := "application/json"
	if form, ok := body.(url.Values); ok {
		data, contentType = []byte(form.Encode()), "application/x-www-form-urlencoded"
	} else if body != nil {
		data, _ = json.Marshal(body)
	}
	r, err := http.NewRequestWithContext(ctx, method, s.base+path, bytes.NewReader(data))
	if err != nil {
		panic(err)
	}
	r.Header.Set("X-Forwarded-For", from)
	if data != nil {
		r.Header.Set("Content-Type", contentType)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	_ = json.Unmarshal(answer, &members)
	return resp.StatusCode, members
}

func text(members map[string]any, name string) string { s, _ := members[name].(string); return s }

// remember adds texts that no series may contain.
func (s *service) remember(texts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range texts {
		if text != "" {
			s.persons = append(s.persons, text)
		}
	}
}

// named returns one of the texts that name people which the given text contains, or "".
func (s *service) named(in string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range s.persons {
		if strings.Contains(in, text) {
			return text
		}
	}
	return ""
}

// use does what users do, until ctx ends: one round for each tick of the interval.
func (s *service) use(ctx context.Context, interval time.Duration) {
	s.remember(clientAddr)
	name := "u" + strings.ToLower(issuer.NewID()[:10])
	user := map[string]any{"username": name, "email": name + "@example.com", "password": password}
	s.remember(name)
	s.call(ctx, clientAddr, "POST", "/registerUser", "", user)
	s.call(ctx, clientAddr, "POST", "/v1/password-resets/complete", "", map[string]any{"token": "x", "password": password})
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for round := 0; ctx.Err() == nil; round++ {
		if round%15 == 0 {
			s.call(ctx, clientAddr, "POST", "/registerUser", "", user) // the name is taken
			s.call(ctx, clientAddr, "POST", "/v1/password-resets", "", map[string]any{"email": name + "@example.com"})
		}
		_, login := s.call(ctx, clientAddr, "POST", "/loginUser", "", user)
		token, refresh := text(login, "token"), text(login, "refresh_token")
		s.remember(token, refresh)
		s.remember(claims(token)...)
		var checks sync.WaitGroup
		for range 8 {
			checks.Go(func() {
				for range 5 {
					s.call(ctx, clientAddr, "GET", "/v1/verify/"+name, token, nil)
				}
			})
		}
		checks.Wait()
		grant := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}
		_, next := s.call(ctx, clientAddr, "POST", "/oauth/token", "", grant)
		s.call(ctx, clientAddr, "GET", "/v1/logins", token, nil)
		switch round % 3 {
		case 0:
			s.call(ctx, clientAddr, "POST", "/loginUser", "", map[string]any{"username": name, "password": "wrong"})
			s.call(ctx, clientAddr, "DELETE", "/logout", token, nil)
		case 1:
			s.call(ctx, clientAddr, "POST", "/oauth/token", "", grant) // its reply was lost
			s.call(ctx, clientAddr, "DELETE", "/v1/sessions?except=current", token, nil)
		default:
			s.call(ctx, clientAddr, "POST", "/oauth/token", "", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {text(next, "refresh_token")}})
			s.call(ctx, clientAddr, "POST", "/oauth/token", "", grant) // a thief
		}
		s.call(ctx, clientAddr, "GET", "/v1/verify", token, nil)
		s.call(ctx, clientAddr, "GET", "/v1/verify", "x", nil)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// claims returns the ids in an access token.
func claims(token string) []string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	var c struct{ Sub, Sid, Jti string }
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	_ = json.Unmarshal(payload, &c)
	return []string{c.Sub, c.Sid, c.Jti}
}

// attack guesses passwords from many addresses until ctx ends.
func (s *service) attack(ctx context.Context, clients int) {
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				guess := map[string]any{"username": "nobody" + fmt.Sprint(n), "password": password}
				if status, _ := s.call(ctx, fmt.Sprintf("198.%d.%d.7", 18+n%2, i), "POST", "/loginUser", "", guess); status == http.StatusServiceUnavailable {
					select {
					case <-ctx.Done():
					case <-time.After(200 * time.Millisecond):
					}
				}
			}
		})
	}
	all.Wait()
}

// begin runs the load in the background until the test ends or stop is called.
func (s *service) begin(t *testing.T, f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	t.Cleanup(stop)
	return stop
}

// redisURL returns the Redis server that all tests share.
func redisURL(t *testing.T) string { t.Helper(); return redisstoretest.RealURL(t) }
