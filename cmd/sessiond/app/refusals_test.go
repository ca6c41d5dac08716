package app

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/limit"
)

// lockedText is a text that several goroutines write.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take returns what was written since the last call.
func (l *lockedText) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

func TestRefusals_LogOneLineAMinuteForEachAccountOrNetwork_ASVS_V16_3_3(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lockedText
		p := newProtection(prometheus.NewRegistry(), slog.New(slog.NewTextHandler(&out, nil)))
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { p.refusals.Run(ctx); close(done) }()
		lines := func() (all []string) {
			synctest.Wait()
			for line := range strings.Lines(out.take()) {
				_, line, _ = strings.Cut(strings.TrimSpace(line), " ")
				all = append(all, line)
			}
			return all
		}
		want := func(expected ...string) {
			t.Helper()
			got := lines()
			for _, e := range expected {
				found := false
				for _, line := range got {
					found = found || line == e
				}
				if !found {
					t.Errorf("no line %s", e)
				}
			}
			if len(got) != len(expected) {
				t.Errorf("%d lines, want %d: %q", len(got), len(expected), got)
			}
		}
		line := func(by, who string, count int) string {
			return fmt.Sprintf(`level=WARN msg="requests refused" by=%s %s count=%d`, by, who, count)
		}
		ada := "account=" + limit.Hash("ada")
		for range 500 {
			p.Refused("login-account", "ada", "192.0.2.0/24")
			p.Refused("login-address", "ada", "192.0.2.0/24")
		}
		p.Refused("login-network", "bob", "198.51.100.0/24")
		p.Refused("register-address", "", "192.0.2.0/24")
		p.Shed("account", hashing.Visitor{Account: "ada", Network: "192.0.2.0/24"})
		p.Shed("full", hashing.Visitor{Account: "ada", Network: "192.0.2.0/24"})
		p.Shed("late", hashing.Visitor{Account: "bob", Network: "192.0.2.0/24"})
		want()
		time.Sleep(refusalPeriod)
		want(line("login-account", ada, 500), line("login-address", "network=192.0.2.0/24", 500), line("login-network", "network=198.51.100.0/24", 1),
			line("register-address", "network=192.0.2.0/24", 1), line("queue", ada, 1), line("queue", "network=192.0.2.0/24", 2))
		time.Sleep(refusalPeriod)
		want()

		for i := range maxRefusals + 7 {
			p.Refused("login-address", "ada", fmt.Sprint("network", i))
		}
		stop()
		<-done
		got := lines()
		if last := got[len(got)-1]; len(got) != maxRefusals+1 || !strings.Contains(last, "further") || !strings.HasSuffix(last, "count=7") {
			t.Errorf("after a flood from many networks: %d lines, the last one %s", len(got), last)
		}
	})
}
