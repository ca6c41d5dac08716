package load

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const Password = "correct horse battery staple"

// Logins counts the outcomes of a flood of logins.
type Logins struct {
	SignedIn, Shed, Limited, Unanswered int // numbers of logins with status 201, 503 and 429, and of logins without an answer
	Prompt                              int // number of logins that succeeded within 5 s of the first attempt
	Rate                                float64
	Longest, LongestRefusal             time.Duration

	mu    sync.Mutex
	start sync.Once
	began time.Time
}

// count adds one answer to the counts. took is the latency of this answer. If Flood.Once is set,
// total is the time since the client's first attempt to log in.
func (l *Logins) count(status int, took, total time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Longest = max(l.Longest, took)
	switch status {
	case http.StatusCreated:
		l.SignedIn++
		if total <= 5*time.Second {
			l.Prompt++
		}
		return nil
	case http.StatusServiceUnavailable:
		l.Shed++
	case http.StatusTooManyRequests:
		l.Limited++
	default:
		return fmt.Errorf("a login got the status %d, want 201, 429 or 503", status)
	}
	l.LongestRefusal = max(l.LongestRefusal, took)
	return nil
}

// Flood describes clients that log in at the same time.
type Flood struct {
	Addrs     []string // addresses of the replicas; clients are distributed evenly
	Users     []string // usernames; the clients are distributed evenly over them
	Clients   int
	Addresses int           // number of source addresses that all clients share; 0: one for each client
	First     int           // the source addresses are 10.0.0.0 plus First, First + 1 and so on
	Spacing   time.Duration // time between the first logins of two clients; 0: random, within one second
	Once      bool          // each client retries until its first successful login, then stops
	Rude      bool          // clients ignore Retry-After and retry at once
	Stampede  bool          // clients connect, send one login at the same moment, and do not retry
}

// Run runs all clients until ctx ends. Unless Once or Stampede is set, each client logs in again
// and again. Answers that arrive before begin are not counted.
func (f Flood) Run(ctx context.Context, begin time.Time) (*Logins, error) {
	l := &Logins{began: begin}
	var g errgroup.Group
	var connecting sync.WaitGroup
	connecting.Add(f.Clients)
	for i := range f.Clients {
		g.Go(func() error { return f.client(ctx, i, begin, &connecting, l) })
	}
	err := g.Wait()
	l.Rate = float64(l.SignedIn) / time.Since(l.began).Seconds()
	return l, err
}

func (f Flood) client(ctx context.Context, number int, begin time.Time, connecting *sync.WaitGroup, l *Logins) error {
	switch {
	case f.Spacing > 0:
		Pause(ctx, time.Until(begin.Add(time.Duration(number)*f.Spacing)))
	case !f.Stampede:
		Pause(ctx, lessThanSecond())
	}
	cs, err := Dial(ctx, 1, f.Addrs[number%len(f.Addrs)])
	connecting.Done()
	if err != nil && ctx.Err() == nil {
		return err
	}
	defer cs.Close()
	defer context.AfterFunc(ctx, cs.Close)()
	wire, arrived := f.wire(number), time.Now()
	if f.Stampede {
		connecting.Wait()
		l.start.Do(func() { l.began = time.Now() })
		arrived = l.began
	}
	for asked := arrived; ctx.Err() == nil; asked = time.Now() {
		answer, err := cs[0].Ask(wire)
		switch {
		case err != nil && f.Stampede:
			l.mu.Lock()
			defer l.mu.Unlock()
			l.Unanswered++
			return nil
		case err != nil && ctx.Err() == nil:
			return err
		case err != nil:
			return nil // ctx has ended, which closed the connection
		}
		if !f.Once {
			arrived = asked
		}
		status, now := answer.StatusCode(), time.Now()
		if !now.Before(begin) {
			if err := l.count(status, now.Sub(asked), now.Sub(arrived)); err != nil {
				return err
			}
		}
		switch {
		case f.Stampede || status == http.StatusCreated && f.Once:
			return nil
		case status != http.StatusCreated && !f.Rude:
			seconds, _ := strconv.Atoi(string(answer.Header.Peek("Retry-After"))) // 0 if the answer has no Retry-After
			Pause(ctx, time.Duration(seconds)*time.Second+lessThanSecond())
		}
	}
	return nil
}

// wire returns a client's login request. sessiond takes the client's address from X-Forwarded-For,
// because it runs with SESSIOND_TRUSTED_PROXIES.
func (f Flood) wire(number int) []byte {
	from := f.First + number%cmp.Or(f.Addresses, f.Clients)
	body, _ := json.Marshal(map[string]string{"login": f.Users[number%len(f.Users)], "password": Password}) // strings can always be marshaled
	return fmt.Appendf(nil, "POST /v1/sessions HTTP/1.1\r\nHost: sessionbench\r\nX-Forwarded-For: 10.%d.%d.%d\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", from>>16&0xff, from>>8&0xff, from&0xff, len(body), body)
}

func lessThanSecond() time.Duration {
	n, _ := rand.Int(rand.Reader, big.NewInt(int64(time.Second))) // crypto/rand never fails
	return time.Duration(n.Int64())
}
