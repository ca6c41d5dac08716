package breach_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sessiond/sessiond/identity/breach"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// These are a password, the prefix and suffix of its SHA-1, and the suffix of another password's SHA-1.
const (
	password = "correct horse"
	prefix   = "2F9E5"
	suffix   = "3523B62ABC141A2B4D6019D23CBA835DBD0"
	other    = "0018A45C4D1DEF81644B54AB7F969B88D65"
)

// ask calls Contains for the test password, with a server that answers with the handler h.
func ask(t *testing.T, h http.HandlerFunc) (bool, error) {
	t.Helper()
	_, list := serve(t, h)
	return list.Contains(t.Context(), password)
}

func serve(t *testing.T, h http.HandlerFunc) (*httptest.Server, *breach.Range) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	list := breach.NewRange(server.URL + "/range/")
	t.Cleanup(func() { _ = list.Close() })
	return server, list
}

func TestContains_ReportsWhetherResponseListsThePassword(t *testing.T) {
	for _, c := range []struct {
		why, answer string
		want        bool
	}{
		{"the password's suffix among others", other + ":10\r\n" + suffix + ":3\r\n", true},
		{"the password's suffix in the last line, without a line break", other + ":10\r\n" + suffix + ":1", true},
		{"the password's suffix in lower case", strings.ToLower(suffix) + ":3\n", true},
		{"only other suffixes", other + ":10\r\n", false},
		{"the password's suffix as padding, with a count of 0", other + ":10\r\n" + suffix + ":0\r\n", false},
		{"an empty response", "", false},
	} {
		got, err := ask(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || r.URL.Path != "/range/"+prefix || r.URL.RawQuery != "" {
				t.Errorf("%s: requested %s %s", c.why, r.Method, r.URL)
			}
			if r.Header.Get("Add-Padding") != "true" || r.Header.Get("User-Agent") != "sessiond" {
				t.Errorf("%s: header %v", c.why, r.Header)
			}
			fmt.Fprint(w, c.answer)
		})
		if err != nil || got != c.want {
			t.Errorf("%s: %v, %v", c.why, got, err)
		}
	}
}

// The error must not contain the password or any part of its hash.
func TestContains_ReturnsErrorForMalformedResponse(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the prefix was sent to another host")
	}))
	t.Cleanup(elsewhere.Close)
	for _, c := range []struct {
		why    string
		answer http.HandlerFunc
		want   string // part of the error's text
	}{
		{"a proxy's page", say("<html>Welcome</html>"), "not a list"},
		{"the password's suffix beside a malformed line", say(suffix + ":3\r\nwelcome " + prefix + "\r\n"), "not a list"},
		{"a count that is not a number", say(suffix + ":many"), "not a list"},
		{"a negative count", say(suffix + ":-1"), "not a list"},
		{"a huge count", say(suffix + ":" + strings.Repeat("9", 100)), "not a list"},
		{"a hash with its prefix", say(prefix + suffix + ":3"), "not a list"},
		{"an internal error", status(500), "status 500"},
		{"a rate limit", status(429), "status 429"},
		{"no content", status(204), "status 204"},
		{"a response of more than a megabyte", func(w http.ResponseWriter, _ *http.Request) {
			for range 1<<20/40 + 1 {
				fmt.Fprint(w, suffix+":300\r\n")
			}
		}, "too long"},
		{"a response that is cut short", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, suffix+":3\r\n")
		}, "EOF"},
		{"a redirect to another host", redirect(func(r *http.Request) string { return elsewhere.URL + r.URL.Path }), "redirects to another host"},
		{"a redirect to another scheme", redirect(func(r *http.Request) string { return "https://" + r.Host + r.URL.Path }), "redirects to another host"},
		{"endless redirects", redirect(func(r *http.Request) string { return r.URL.Path }), "redirects to another host"},
		{"a malformed redirect", redirect(func(r *http.Request) string { return "http://[" + r.URL.Path }), "…"},
		{"a closed connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		found, err := ask(t, c.answer)
		if err == nil || found {
			t.Errorf("%s: %v, %v", c.why, found, err)
			continue
		}
		if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.why, err, c.want)
		}
		for _, secret := range []string{password, prefix, suffix} {
			if strings.Contains(strings.ToUpper(err.Error()), strings.ToUpper(secret)) {
				t.Errorf("%s: the error reveals %s: %v", c.why, secret, err)
			}
		}
	}
}

func say(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func redirect(to func(*http.Request) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", to(r))
		w.WriteHeader(http.StatusFound)
	}
}

func TestContains_FollowsRedirectOnTheSameHost_ASVS_V15_3_2(t *testing.T) {
	found, err := ask(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/range/"+prefix {
			http.Redirect(w, r, "/v2/"+prefix, http.StatusFound)
			return
		}
		fmt.Fprint(w, suffix+":3")
	})
	if err != nil || !found {
		t.Errorf("%v, %v", found, err)
	}
}

func TestContains_ReturnsErrorIfTheServerIsDown(t *testing.T) {
	server, list := serve(t, say(""))
	server.Close()
	if _, err := list.Contains(t.Context(), password); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
}

func TestContains_GivesUpAfterOneSecondOrWhenTheContextEnds(t *testing.T) {
	asked, release := make(chan struct{}, 1), make(chan struct{})
	_, list := serve(t, func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	})
	t.Cleanup(func() { close(release) })
	done := make(chan error, 1)
	go func() {
		_, err := list.Contains(context.WithoutCancel(t.Context()), password)
		done <- err
	}()
	<-asked
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
			t.Errorf("got %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Contains still waits after a minute")
	}

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := list.Contains(ctx, password); err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("got %v", err)
	}
}

func TestContains_SendsAtMost16RequestsAtOnce(t *testing.T) {
	const most = 16
	var mu sync.Mutex
	running, highest := 0, 0
	full, release := make(chan struct{}), make(chan struct{})
	_, list := serve(t, func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		running++
		if highest = max(highest, running); running == most {
			close(full)
		}
		mu.Unlock()
		<-release
		mu.Lock()
		running--
		mu.Unlock()
	})
	var all sync.WaitGroup
	for range most {
		all.Go(func() { _, _ = list.Contains(context.WithoutCancel(t.Context()), password) })
	}
	<-full
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := list.Contains(ctx, password); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled check beyond the bound: %v", err)
	}
	for range most {
		all.Go(func() { _, _ = list.Contains(context.WithoutCancel(t.Context()), password) })
	}
	close(release)
	all.Wait()
	if highest != most {
		t.Errorf("at most %d requests ran at once, want %d", highest, most)
	}
}
