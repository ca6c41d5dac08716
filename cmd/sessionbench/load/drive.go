// Package load is the load generator. It sends token checks and logins, verifies every answer, and
// records how long it took.
package load

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"
)

// CheckPath is the URL path of token checks. Every measured server serves this path.
const CheckPath = "/v1/verify"

// Request is one token check and its right answer.
type Request struct {
	Wire    []byte // the complete HTTP request
	Token   string
	Session string
	Revoked bool // the session is revoked, and the right answer is a refusal
}

func NewRequest(token, session string) Request {
	wire := "GET " + CheckPath + " HTTP/1.1\r\nHost: sessionbench\r\nAuthorization: Bearer " + token + "\r\n\r\n"
	return Request{Wire: []byte(wire), Token: token, Session: session}
}

// The outcomes of a check that did not get the right answer.
var (
	ErrWrong    = errors.New("wrong answer")
	ErrVanished = errors.New("the caller gave up before the answer")
	ErrDeclined = errors.New("sessiond was overloaded, or could not check a token in time") // only the measurement vanish returns it; elsewhere such an answer is an ErrWrong
)

// Client is one keep-alive HTTP connection. It sends prepared bytes and parses answers with
// fasthttp, because it shares the CPU with the measured server. An expensive client would make fast
// and slow servers look alike.
type Client struct {
	net.Conn
	reader *bufio.Reader
	answer fasthttp.Response
}

// Ask sends an HTTP request and returns the answer, which is valid until the next call.
func (c *Client) Ask(wire []byte) (*fasthttp.Response, error) {
	if _, err := c.Write(wire); err != nil {
		return nil, fmt.Errorf("send a request: %w", err)
	}
	if err := c.answer.Read(c.reader); err != nil {
		return nil, fmt.Errorf("read an answer: %w", err)
	}
	return &c.answer, nil
}

func (c *Client) Status() int { return c.answer.StatusCode() }

// Check sends r and returns an error that wraps ErrWrong if the answer is wrong. named means that
// the server names the session in the header X-Auth-Session.
func (c *Client) Check(r *Request, named bool) error {
	answer, err := c.Ask(r.Wire)
	if err != nil {
		return err
	}
	want := http.StatusOK
	if r.Revoked {
		want = http.StatusUnauthorized
	}
	if status := answer.StatusCode(); status != want {
		return fmt.Errorf("%w: status %d, want %d", ErrWrong, status, want)
	}
	if session := answer.Header.Peek("X-Auth-Session"); named && !r.Revoked && string(session) != r.Session {
		return fmt.Errorf("%w: session %q, want %q", ErrWrong, session, r.Session)
	}
	return nil
}

// Clients holds one connection for each concurrent caller.
type Clients []*Client

// Dial opens n connections and distributes them evenly over the addresses.
func Dial(ctx context.Context, n int, addrs ...string) (Clients, error) {
	var cs Clients
	for i := range n {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addrs[i%len(addrs)])
		if err != nil {
			return cs, fmt.Errorf("connect to a measured server: %w", err)
		}
		cs = append(cs, &Client{Conn: conn, reader: bufio.NewReader(conn)})
	}
	return cs, nil
}

func (cs Clients) Close() {
	for _, c := range cs {
		_ = c.Conn.Close() // writes are not buffered, so none is lost
	}
}

// Patience is how long callers still wait for answers after they have sent their last request.
const Patience = 30 * time.Second

// Bound closes the connections when ctx ends or when the time d+Patience is over, unless release is
// called first. A caller that still waits for an answer then gets an error.
func (cs Clients) Bound(ctx context.Context, d time.Duration) (release func()) {
	ctx, cancel := context.WithTimeout(ctx, d+Patience)
	stop := context.AfterFunc(ctx, cs.Close)
	return func() { stop(); cancel() }
}

// Ask returns a function for Drive that sends the checks of each caller over its own connection.
func (cs Clients) Ask(named bool) Ask {
	return func(_ context.Context, caller int, r *Request) error { return cs[caller].Check(r, named) }
}

// Work counts the checks of all callers and holds their latencies.
type Work struct {
	Latencies *hdrhistogram.Histogram // in nanoseconds; a check that its caller gave up has no latency
	Took      time.Duration
	Wrong     int
	Complaint string // error text of the first wrong answer
	Vanished  int    // checks that the caller gave up before the answer
	Declined  int    // checks that ended with ErrDeclined
}

// NewWork returns an empty Work. Its histogram is exact to 0.1 %.
func NewWork() *Work { return &Work{Latencies: hdrhistogram.New(1, int64(time.Hour), 3)} }

func (w *Work) Rate() float64 { return float64(w.Latencies.TotalCount()) / w.Took.Seconds() }

// Percentile returns percentile p (0 to 100) of the latencies, or 0 if there are none.
func (w *Work) Percentile(p float64) time.Duration {
	return time.Duration(w.Latencies.ValueAtPercentile(p))
}

// Supply hands out requests to concurrent callers.
type Supply struct {
	Requests []Request
	Once     bool          // hand out each request once; otherwise start over at the end
	Interval time.Duration // time between the starts of a caller's checks; 0: a check starts when the one before it ends
	next     atomic.Int64
}

// take returns the next request, or nil if Once is set and all requests were handed out.
func (s *Supply) take() *Request {
	i := int(s.next.Add(1)) - 1
	if i >= len(s.Requests) {
		if s.Once {
			return nil
		}
		i %= len(s.Requests)
	}
	return &s.Requests[i]
}

// Ask makes the check r for the caller with that index. An error other than ErrWrong, ErrVanished
// and ErrDeclined ends the run.
type Ask func(ctx context.Context, caller int, r *Request) error

// Drive runs n concurrent callers, each making one check after another, until d is over, the supply
// is used up or ctx ends. It adds the results to w.
func Drive(ctx context.Context, n int, d time.Duration, from *Supply, ask Ask, w *Work) error {
	callers := make([]caller, n)
	g, ctx := errgroup.WithContext(ctx)
	begin := time.Now()
	for i := range callers {
		due := begin.Add(from.Interval * time.Duration(i) / time.Duration(n))
		g.Go(func() error { return callers[i].run(ctx, i, due, begin.Add(d), from, ask) })
	}
	err := g.Wait()
	w.Took += time.Since(begin)
	for i := range callers {
		c := &callers[i]
		for _, latency := range c.latencies {
			_ = w.Latencies.RecordValue(int64(latency)) // RecordValue fails only if the latency is above one hour
		}
		w.Complaint = cmp.Or(w.Complaint, c.Complaint)
		w.Wrong, w.Vanished, w.Declined = w.Wrong+c.Wrong, w.Vanished+c.Vanished, w.Declined+c.Declined
	}
	return err
}

// caller is one of Drive's concurrent callers. It keeps latencies in a slice, because the
// histograms of 256 callers would displace the measured server's data from the CPU caches.
type caller struct {
	Work
	latencies []time.Duration
}

// run makes checks until end. A latency begins when its check is due, because otherwise a check
// that was delayed by a slow one before it would look fast.
func (c *caller) run(ctx context.Context, number int, due, end time.Time, from *Supply, ask Ask) error {
	for due.Before(end) && ctx.Err() == nil {
		if from.Interval > 0 {
			Pause(ctx, time.Until(due))
		}
		r := from.take()
		if r == nil {
			return nil
		}
		err := ask(ctx, number, r)
		began, now := due, time.Now()
		if due = now; from.Interval > 0 {
			due = began.Add(from.Interval)
		}
		switch {
		case err == nil:
		case errors.Is(err, ErrWrong):
			c.Wrong++
			c.Complaint = cmp.Or(c.Complaint, err.Error())
		case errors.Is(err, ErrDeclined):
			c.Declined++
		case errors.Is(err, ErrVanished):
			c.Vanished++
			continue
		default:
			return err
		}
		c.latencies = append(c.latencies, now.Sub(began))
	}
	return ctx.Err()
}

func Pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Micros and Millis convert d to microseconds and milliseconds.
func Micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func Millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
