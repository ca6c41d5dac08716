// Package load is the load generator. It sends checks and logins, holds every answer to what it must
// be, and records how long each took.
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

// CheckPath is the path that every contender serves. All of them get the same bytes.
const CheckPath = "/v1/verify"

// Request is one check and the answer that it must get.
type Request struct {
	Wire    []byte // the HTTP request
	Token   string
	Session string
	Revoked bool // the answer must be a refusal
}

// NewRequest prepares the check of a token.
func NewRequest(token, session string) Request {
	wire := "GET " + CheckPath + " HTTP/1.1\r\nHost: sessionbench\r\nAuthorization: Bearer " + token + "\r\n\r\n"
	return Request{Wire: []byte(wire), Token: token, Session: session}
}

// The outcomes of a check that did not get the right answer.
var (
	ErrWrong    = errors.New("wrong answer")
	ErrVanished = errors.New("the caller left before the answer")
	ErrDeclined = errors.New("no answer") // where that is allowed: a 503, or the caller's deadline
)

// Client is one keep-alive HTTP connection. It sends prepared bytes and lets fasthttp parse the
// answer, because the load generator shares the cores with the service: a client that costs more
// makes all contenders look alike.
type Client struct {
	net.Conn
	reader *bufio.Reader
	answer fasthttp.Response
}

// Ask sends a request and returns the answer, which is valid until the next call.
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

// Check sends r. It returns an error that wraps ErrWrong if the answer is not the right one. named
// means that the contender names the session in its answers.
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

// Clients are the connections of the callers.
type Clients []*Client

// Dial makes n connections, spread over the replicas at these addresses.
func Dial(ctx context.Context, n int, addrs ...string) (Clients, error) {
	var cs Clients
	for i := range n {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addrs[i%len(addrs)])
		if err != nil {
			return cs, fmt.Errorf("dial a contender: %w", err)
		}
		cs = append(cs, &Client{Conn: conn, reader: bufio.NewReader(conn)})
	}
	return cs, nil
}

func (cs Clients) Close() {
	for _, c := range cs {
		_ = c.Conn.Close() // nothing was buffered
	}
}

// Patience is how much longer than its turn an answer may take.
const Patience = 30 * time.Second

// Bound closes the connections once d and Patience are over or ctx ends, unless release is called
// before. A caller that waits for an answer then gets an error.
func (cs Clients) Bound(ctx context.Context, d time.Duration) (release func()) {
	ctx, cancel := context.WithTimeout(ctx, d+Patience)
	stop := context.AfterFunc(ctx, cs.Close)
	return func() { stop(); cancel() }
}

// Ask returns the Ask for Drive that gives each caller a connection.
func (cs Clients) Ask(named bool) Ask {
	return func(_ context.Context, caller int, r *Request) error { return cs[caller].Check(r, named) }
}

// Work is what the callers of a contender did.
type Work struct {
	Latencies *hdrhistogram.Histogram // of the checks that were answered, in nanoseconds
	Took      time.Duration
	Wrong     int
	Complaint string // about the first wrong answer
	Vanished  int    // checks whose caller left
	Declined  int    // checks that got no answer where that is allowed
}

// NewWork returns a Work in which nothing was done yet. Its histogram is exact to 0.1 %.
func NewWork() *Work { return &Work{Latencies: hdrhistogram.New(1, int64(time.Hour), 3)} }

// Rate is the number of answers a second.
func (w *Work) Rate() float64 { return float64(w.Latencies.TotalCount()) / w.Took.Seconds() }

// Percentile is a percentile of the latencies, 0 if there are none.
func (w *Work) Percentile(p float64) time.Duration {
	return time.Duration(w.Latencies.ValueAtPercentile(p))
}

// Supply hands out requests to callers that ask at the same time.
type Supply struct {
	Requests []Request
	Once     bool          // hand out each request once; otherwise start over at the end
	Interval time.Duration // between two checks of one caller; 0: each begins when the last one ends
	next     atomic.Int64
}

// take returns nil when every request was handed out.
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

// Ask makes one check on behalf of the caller with that number. An error that is none of ErrWrong,
// ErrVanished and ErrDeclined ends the run.
type Ask func(ctx context.Context, caller int, r *Request) error

// Drive has n callers make checks at the same time, each one after another, until d is over, the
// supply is used up or ctx ends. It adds what they did to w.
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
			_ = w.Latencies.RecordValue(int64(latency)) // fails above an hour only
		}
		w.Complaint = cmp.Or(w.Complaint, c.Complaint)
		w.Wrong, w.Vanished, w.Declined = w.Wrong+c.Wrong, w.Vanished+c.Vanished, w.Declined+c.Declined
	}
	return err
}

// caller is what one caller saw. It keeps its latencies in a slice, because the histograms of 256
// callers would take the processor's caches from the service.
type caller struct {
	Work
	latencies []time.Duration
}

// run makes checks. A latency begins when its check is due. Otherwise a check that had to wait for a
// slow one before it would count as fast.
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

// Pause waits for d or until ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Micros and Millis are d in these units.
func Micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func Millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
