package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/sqlstore"
)

// loginPassword is everybody's.
const loginPassword = "correct horse battery staple"

// loginCost is that of a password's hash, the service's default.
const loginCost = 10

// people are users who can sign in. All have one password and one hash of it,
// which was made once: what is measured is looking at it.
func (s *stage) people(ctx context.Context, n int) ([]identity.User, error) {
	hasher, err := hashing.NewHasher(loginCost, nil)
	if err != nil {
		return nil, err
	}
	hash, err := hasher.Hash(ctx, loginPassword)
	if err != nil {
		return nil, err
	}
	db, err := sqlstore.Open(ctx, s.databaseURL, sqlstore.Options{})
	if err != nil {
		return nil, err
	}
	defer db.Close() //nolint:errcheck // Create says what was written
	users := make([]identity.User, n)
	for i := range users {
		users[i] = newUser()
		users[i].PasswordHash = hash
		if err := db.Users().Create(ctx, users[i], time.Time{}, nil); err != nil {
			return nil, err
		}
	}
	return users, nil
}

// loginWire is a login as it goes over HTTP, from an address for which the
// service takes our word.
func loginWire(username, address string) []byte {
	body, err := json.Marshal(map[string]string{"login": username, "password": loginPassword})
	if err != nil {
		panic(err) // of two strings
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "POST /v1/sessions HTTP/1.1\r\nHost: sessionbench\r\nX-Forwarded-For: %s\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", address, len(body), body)
	return b.Bytes()
}

// address is that of the client of this number.
func address(number int) string {
	return fmt.Sprintf("10.%d.%d.%d", number>>16&0xff, number>>8&0xff, number&0xff)
}

// logins are what came of those who wanted to sign in.
type logins struct {
	SignedIn    int     `json:"signed_in"`
	Shed        int     `json:"shed"`    // 503
	Limited     int     `json:"limited"` // 429
	Unanswered  int     `json:"unanswered"`
	Rate        float64 `json:"signed_in_per_second"`
	Longest     float64 `json:"longest_ms"`      // any answer
	LongestShed float64 `json:"longest_shed_ms"` // a 503 or 429
	P99         float64 `json:"p99_ms"`          // of those who signed in

	waits []time.Duration
}

// flood has clients sign in, one login after another each, until ctx ends.
type flood struct {
	addrs   []string // of the replicas
	users   []identity.User
	clients int
	// addresses is how many the clients come from; 0: each has its own.
	addresses int
	first     int  // number of the first address
	rude      bool // who is turned away comes back at once, and not when told to
	once      bool // each client signs in once, however often it takes
	prompt    bool // they begin at once, and not within a second
}

// run counts the answers that come from begin on.
func (f *flood) run(ctx context.Context, begin time.Time) (*logins, error) {
	total := &logins{}
	each := make([]logins, f.clients)
	problems := make([]error, f.clients)
	var running sync.WaitGroup
	for i := range f.clients {
		running.Go(func() { problems[i] = f.client(ctx, i, begin, &each[i]) })
	}
	running.Wait()
	for i := range each {
		total.add(&each[i])
	}
	slices.Sort(total.waits)
	total.P99 = millis(percentile(total.waits, 99))
	total.Rate = float64(total.SignedIn) / time.Since(begin).Seconds()
	return total, errors.Join(problems...)
}

func (l *logins) add(o *logins) {
	l.SignedIn += o.SignedIn
	l.Shed += o.Shed
	l.Limited += o.Limited
	l.Unanswered += o.Unanswered
	l.Longest = max(l.Longest, o.Longest)
	l.LongestShed = max(l.LongestShed, o.LongestShed)
	l.waits = append(l.waits, o.waits...)
}

// wire is what the client of this number asks.
func (f *flood) wire(number int) []byte {
	from := number
	if f.addresses > 0 {
		from %= f.addresses
	}
	return loginWire(f.users[number%len(f.users)].Username, address(f.first+from))
}

func (f *flood) dial(ctx context.Context, number int) (*client, error) {
	return dial(ctx, f.addrs[number%len(f.addrs)])
}

func (f *flood) client(ctx context.Context, number int, begin time.Time, l *logins) error {
	if !f.prompt {
		// Nobody arrives at the very same moment as a thousand others.
		pause(ctx, lessThanSecond())
	}
	arrived, wire := time.Now(), f.wire(number)
	c, err := f.dial(ctx, number)
	if err != nil {
		return unlessOver(ctx, err)
	}
	defer c.conn.Close() //nolint:errcheck // it served
	defer clients{c}.bound(ctx, time.Hour)()
	for ctx.Err() == nil {
		asked := time.Now()
		a, err := c.ask(wire)
		if err != nil {
			return unlessOver(ctx, err)
		}
		var seen logins
		if err := seen.outcome(a, time.Since(asked)); err != nil {
			return err
		}
		if !time.Now().Before(begin) {
			l.add(&seen)
		}
		switch {
		case a.status == http.StatusCreated && f.once:
			for i := range l.waits {
				l.waits[i] = time.Since(arrived) // with all its tries
			}
			return nil
		case a.status != http.StatusCreated && !f.rude:
			pause(ctx, a.retryAfter+lessThanSecond())
		}
	}
	return nil
}

// stampedeTimeout is when a client gives up that was part of a stampede.
const stampedeTimeout = 30 * time.Second

// stampede has all clients connect first, and then ask at the same moment, once.
func (f *flood) stampede(ctx context.Context) (*logins, error) {
	cs := make(clients, f.clients)
	defer cs.close()
	for i := range cs {
		var err error
		if cs[i], err = f.dial(ctx, i); err != nil {
			return nil, err
		}
	}
	defer cs.bound(ctx, stampedeTimeout)()
	each := make([]logins, f.clients)
	problems := make([]error, f.clients)
	begin := time.Now()
	var running sync.WaitGroup
	for i, c := range cs {
		running.Go(func() {
			a, err := c.ask(f.wire(i))
			if err != nil {
				each[i].Unanswered = 1
				return
			}
			problems[i] = each[i].outcome(a, time.Since(begin))
		})
	}
	running.Wait()
	total := &logins{}
	for i := range each {
		total.add(&each[i])
	}
	total.Rate = float64(total.SignedIn) / time.Since(begin).Seconds()
	return total, errors.Join(problems...)
}

// unlessOver forgives what breaks because the time is over.
func unlessOver(ctx context.Context, err error) error {
	// A socket's deadline may be noticed before that of ctx, which is the same.
	end, bounded := ctx.Deadline()
	if ctx.Err() != nil || bounded && !time.Now().Before(end) {
		return nil
	}
	return err
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// lessThanSecond is any time that is.
func lessThanSecond() time.Duration {
	var random [4]byte
	rand.Read(random[:])
	return time.Duration(binary.LittleEndian.Uint32(random[:])) * time.Second >> 32
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// steady are checks that come at even times, whatever became of those before.
type steady struct {
	addrs    []string
	requests []request
	rate     int // a second
}

const steadyConnections = 32

// run asks until ctx ends, and returns how long those took that were due from
// begin on, sorted. A check's time begins when it is due, so that one that is held
// up by the one before it is not taken for a quick one.
func (s *steady) run(ctx context.Context, begin time.Time) (waits []time.Duration, err error) {
	each := make([][]time.Duration, steadyConnections)
	problems := make([]error, steadyConnections)
	interval := time.Second * steadyConnections / time.Duration(s.rate)
	now := time.Now()
	var running sync.WaitGroup
	for i := range steadyConnections {
		running.Go(func() {
			offset := time.Duration(i) * interval / steadyConnections
			each[i], problems[i] = s.client(ctx, i, now.Add(offset), interval, begin)
		})
	}
	running.Wait()
	waits = slices.Concat(each...)
	slices.Sort(waits)
	return waits, errors.Join(problems...)
}

func (s *steady) client(ctx context.Context, number int, due time.Time, interval time.Duration, begin time.Time) (waits []time.Duration, err error) {
	c, err := dial(ctx, s.addrs[number%len(s.addrs)])
	if err != nil {
		return nil, unlessOver(ctx, err)
	}
	defer c.conn.Close() //nolint:errcheck // it served
	defer clients{c}.bound(ctx, time.Hour)()
	for n := number; ctx.Err() == nil; n += steadyConnections {
		pause(ctx, time.Until(due))
		r := &s.requests[n%len(s.requests)]
		a, err := c.ask(r.wire)
		if err != nil {
			return waits, unlessOver(ctx, err)
		}
		if err := a.judge(r, true); err != nil {
			return waits, err
		}
		if !due.Before(begin) {
			waits = append(waits, time.Since(due))
		}
		due = due.Add(interval)
	}
	return waits, nil
}
