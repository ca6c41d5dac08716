package redisstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// wire is a proxy in front of a Redis. It counts round trips and can stop forwarding.
type wire struct {
	net.Listener
	target string

	mu      sync.Mutex
	asking  bool // the bytes that were forwarded last came from a client, not from the server
	trips   int
	stalled chan struct{} // the proxy forwards while this channel is closed
	conns   []net.Conn
}

// wireTo starts a proxy for the Redis at redisURL. It returns the proxy and the URL that uses it.
func wireTo(t *testing.T, redisURL string) (*wire, string) {
	t.Helper()
	u, err := url.Parse(redisURL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, target: u.Host, stalled: make(chan struct{})}
	close(w.stalled)
	var wg sync.WaitGroup
	wg.Go(func() { w.serve(&wg) })
	t.Cleanup(func() {
		w.resume()
		_ = l.Close()
		w.mu.Lock()
		for _, c := range w.conns {
			_ = c.Close()
		}
		w.mu.Unlock()
		wg.Wait()
	})
	u.Host = l.Addr().String()
	return w, u.String()
}

func (w *wire) serve(wg *sync.WaitGroup) {
	for {
		client, err := w.Accept()
		if err != nil {
			return
		}
		server, err := new(net.Dialer).DialContext(context.Background(), "tcp", w.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, client, server)
		w.mu.Unlock()
		wg.Go(func() { w.forward(server, client, true) })
		wg.Go(func() { w.forward(client, server, false) })
	}
}

func (w *wire) forward(to, from net.Conn, asking bool) {
	defer to.Close() // Close ends the goroutine that forwards in the opposite direction
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		if asking && !w.asking {
			w.trips++
		}
		w.asking = asking
		gate := w.stalled
		w.mu.Unlock()
		<-gate
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (w *wire) stall() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stalled = make(chan struct{})
}

func (w *wire) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.stalled:
	default:
		close(w.stalled)
	}
}

// tripsOf runs f and returns the number of round trips to Redis that f made.
func (w *wire) tripsOf(f func()) int {
	w.mu.Lock()
	w.trips = 0
	w.mu.Unlock()
	f()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.trips
}

// TestLook_TakesOneRoundTrip counts the round trips of lookups, of revocations and of a backfill.
func TestLook_TakesOneRoundTrip(t *testing.T) {
	for name, redisURL := range map[string]func(testing.TB) string{
		"embedded": redisstoretest.URL, "real": redisstoretest.RealURL,
	} {
		t.Run(name, func(t *testing.T) {
			w, wired := wireTo(t, redisURL(t))
			v := newTestStore(t, wired)
			until := time.Now().Add(time.Hour)
			look := func() {
				if _, err := v.Look(t.Context(), v.ref); err != nil {
					t.Error(err)
				}
			}
			count := func(what string, f func(), want int) {
				t.Helper()
				if got := w.tripsOf(f); got != want {
					t.Errorf("%s: %d round trips, want %d", what, got, want)
				}
			}
			look() // the first lookup connects, which takes more round trips
			count("Look at an unknown session", look, 1)
			v.backfill(t, active(1, until))
			count("Look at an active session", look, 1)
			revoke := func() { v.apply(t, issuer.Revocation{Subject: "ada", SessionID: "s1", Until: until}) }
			revoke() // the first revocation sends the script, which takes one more round trip
			count("Apply", revoke, 1)
			count("Look at an ended session", look, 1)
			count("Lease and Backfill", func() { v.backfill(t, active(1, until)) }, 2)
		})
	}
}

// TestLook_SendsGetexMgetAndInfo uses Redis's MONITOR to list the commands of a lookup. The first
// command must be one that a demoted master refuses.
func TestLook_SendsGetexMgetAndInfo(t *testing.T) {
	redisURL := redisstoretest.StartServer(t)
	v := newTestStore(t, redisURL)
	v.backfill(t, active(1, time.Now().Add(time.Hour)))
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(redisURL, "redis://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "MONITOR\r\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(conn)
	lines.Scan() // skip the reply +OK to MONITOR

	for range 3 {
		if got, err := v.Look(t.Context(), v.ref); err != nil || !got.HasEntry || !got.HasGeneration {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	v.client.Echo(t.Context(), "end of the checks")

	var sent []string
	for lines.Scan() {
		_, command, _ := strings.Cut(lines.Text(), "] ")
		if strings.Contains(command, "end of the checks") {
			break
		}
		sent = append(sent, strings.ReplaceAll(command, v.prefix, ""))
	}
	sent = slices.DeleteFunc(sent, func(command string) bool {
		return strings.HasPrefix(command, `"hello"`) || strings.HasPrefix(command, `"client"`)
	})
	check := []string{`"getex" "g:{ada}"`, `"mget" "g:{ada}" "s:{ada}:s1" "b:{ada}:t1"`, `"info" "replication"`}
	if want := slices.Concat(check, check, check); !slices.Equal(sent, want) {
		t.Errorf("three checks sent\n%s\nwant\n%s", strings.Join(sent, "\n"), strings.Join(want, "\n"))
	}
}

// TestStore_EndsEachCallAtItsTimeoutWhenServerHangs checks that no method of a store exceeds its
// timeout if the server reads commands and never answers.
func TestStore_EndsEachCallAtItsTimeoutWhenServerHangs(t *testing.T) {
	_, silent := silentServer(t)
	for _, redisURL := range []string{
		"redis://" + silent, "redis+cluster://" + silent, "redis+sentinel://" + silent + "?master=m",
	} {
		t.Run(strings.Split(redisURL, ":")[0], func(t *testing.T) {
			store, err := redisstore.Open(redisURL, redisstore.Options{LookTimeout: 100 * time.Millisecond, ApplyTimeout: 200 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = store.Close() }) // Close may fail, because the server never answered
			wantTimeouts(t, store, 100*time.Millisecond, 200*time.Millisecond)
		})
	}
}

func TestStore_EndsEachCallAtItsDefaultTimeoutWhenServerHangs(t *testing.T) {
	_, silent := silentServer(t)
	store, err := redisstore.Open("redis://"+silent, redisstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	wantTimeouts(t, store, 150*time.Millisecond, 500*time.Millisecond)
}

// wantTimeouts checks the timeout of every store method twice: with new connections, and with the
// connections that the first round left in the pool.
func wantTimeouts(t *testing.T, store *redisstore.Store, look, apply time.Duration) {
	t.Helper()
	ctx := t.Context()
	ref := session.Ref{Subject: "ada", SessionID: "s1", TokenID: "t1"}
	store.Epochs().Learn([]session.Epoch{{Number: 1, Server: "a server that is trusted"}}, time.Now().Add(time.Hour), 0)
	for range 2 {
		for _, method := range []struct {
			name    string
			timeout time.Duration
			call    func(ctx context.Context) error
		}{
			{"Look", look, func(ctx context.Context) error { _, err := store.Look(ctx, ref); return err }},
			{"Lease", look, func(ctx context.Context) error { _, _, err := store.Lease(ctx, ref); return err }},
			{"Backfill", look, func(ctx context.Context) error {
				_, err := store.Backfill(ctx, "lease", ref, active(1, time.Now()))
				return err
			}},
			{"Ping", look, store.Ping},
			{"Apply", apply, func(ctx context.Context) error {
				_, err := store.Apply(ctx, issuer.Revocation{Subject: "ada", SessionID: "s1"})
				return err
			}},
			{"Look with 20 ms left", 20 * time.Millisecond, func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
				defer cancel()
				_, err := store.Look(ctx, ref)
				return err
			}},
		} {
			// A method without a timeout of its own would end only with the timeout of the Redis
			// client, which is longer than 400 ms, in every try. A busy machine exceeds 400 ms only in
			// some of the tries.
			var took time.Duration
			for range 5 {
				started := time.Now()
				err := method.call(ctx)
				took = time.Since(started)
				if !errors.Is(err, session.ErrUnavailable) {
					t.Errorf("%s = %v, want ErrUnavailable", method.name, err)
				}
				if took <= method.timeout+400*time.Millisecond {
					break
				}
			}
			if took > method.timeout+400*time.Millisecond {
				t.Errorf("%s took %v, want at most %v", method.name, took, method.timeout)
			}
		}
	}
}

// silentServer starts a server that accepts connections, reads from them and never answers.
func silentServer(t *testing.T) (net.Listener, string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				_, _ = io.Copy(io.Discard, conn)
			})
		}
	})
	// Cleanups that were added later run first. They close the stores, whose connections end the
	// goroutines that Wait waits for.
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l, l.Addr().String()
}

// TestLook_NeverReturnsLateReplyToAnotherLookup stops and resumes a server while connections
// are open. A reply that arrives late must not be used as the reply to another lookup.
func TestLook_NeverReturnsLateReplyToAnotherLookup(t *testing.T) {
	w, wired := wireTo(t, redisstoretest.URL(t))
	store := redisstoretest.Open(t, wired, redisstore.Options{})
	v := &testStore{Store: store}
	until := time.Now().Add(time.Hour)
	for i := range 8 {
		v.ref = session.Ref{Subject: fmt.Sprint("u", i), SessionID: "s1", TokenID: "t1"}
		v.backfill(t, active(int64(i), until))
	}
	lookAtAll := func(ctx context.Context) (failed int) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for i := range 8 {
			wg.Go(func() {
				got, err := store.Look(ctx, session.Ref{Subject: fmt.Sprint("u", i), SessionID: "s1", TokenID: "t1"})
				switch {
				case errors.Is(err, session.ErrUnavailable):
					mu.Lock()
					failed++
					mu.Unlock()
				case err != nil || got.Generation != int64(i) || got.Entry.Generation != int64(i):
					t.Errorf("Look at subject %d = %+v, %v", i, got, err)
				}
			})
		}
		wg.Wait()
		return failed
	}
	for range 3 {
		w.stall()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if failed := lookAtAll(ctx); failed != 8 {
			t.Errorf("%d of 8 lookups failed while the server hung, want all", failed)
		}
		cancel()
		w.resume()
		if failed := lookAtAll(t.Context()); failed != 0 {
			t.Errorf("%d of 8 lookups failed after the server answered again, want none", failed)
		}
	}
}
