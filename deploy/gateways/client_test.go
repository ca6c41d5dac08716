package gateways_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// client is one HTTP connection. It writes requests exactly as given, because net/http would
// correct them.
type client struct {
	t        *testing.T
	addr     string
	conn     net.Conn
	in       *bufio.Reader
	reopened int // how many times the gateway closed the connection after an answer other than 503
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	c := &client{t: t, addr: addr}
	c.dial()
	return c
}

func (c *client) dial() {
	c.t.Helper()
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = conn.Close() })
	c.conn, c.in = conn, bufio.NewReader(conn)
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// do sends one request with the header lines in lines. If body is nil, the request has no body.
func (c *client) do(method, target string, body []byte, lines ...string) answer {
	c.t.Helper()
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s HTTP/1.1\r\nHost: app.example\r\n", method, target)
	for _, line := range lines {
		out.WriteString(line + "\r\n")
	}
	if body != nil {
		fmt.Fprintf(&out, "Content-Length: %d\r\n", len(body))
	}
	out.WriteString("\r\n")
	out.Write(body)
	return c.exchange(method, out.String())
}

// exchange sends the bytes of one request.
func (c *client) exchange(method, request string) answer {
	c.t.Helper()
	if err := c.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.WriteString(c.conn, request); err != nil {
		c.t.Fatalf("%.100q: %v", request, err)
	}
	resp, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("%.100q: %v", request, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("%.100q: %v", request, err)
	}
	if resp.Close {
		if resp.StatusCode != 503 {
			c.reopened++
		}
		c.dial()
	}
	return answer{resp.StatusCode, resp.Header, data}
}

// ask repeats a request while the gateway returns 503, because the gateway's check with sessiond
// may time out on a busy machine. A 503 that the application itself sent is returned at once.
func (c *client) ask(method, target string, body []byte, lines ...string) answer {
	c.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		a := c.do(method, target, body, lines...)
		if a.status != 503 || a.fromApp() || time.Now().After(deadline) {
			return a
		}
		a.wantUnavailable(c.t)
		c.t.Logf("%s %s: 503, so the client tries again", method, target)
		time.Sleep(50 * time.Millisecond)
	}
}

func (a answer) fromApp() bool { return a.header.Get("X-From") == "app" }

func (a answer) want(t *testing.T, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %v %s", a.status, status, a.header, a.body)
	}
	return a
}

// wantUnavailable fails the test unless the answer is a 503 that tells the client
// when to retry.
func (a answer) wantUnavailable(t *testing.T) {
	t.Helper()
	a.want(t, 503)
	if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1 {
		t.Fatalf("503 with Retry-After %q, want a number of seconds", a.header.Values("Retry-After"))
	}
}

// wantUnchecked fails the test unless the answer is one that a gateway gives if it gets no verdict from
// sessiond: a 503 that tells the client when to retry, or, if the gateway relays what it gets, any
// refusal but a 401, because a 401 signs people out.
func (a answer) wantUnchecked(t *testing.T, relays bool) {
	t.Helper()
	if !relays {
		a.wantUnavailable(t)
		return
	}
	if a.status < 300 || a.status == 401 || a.fromApp() {
		t.Fatalf("status %d, want a refusal other than 401: %v %s", a.status, a.header, a.body)
	}
}

func (a answer) decode(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("body %q: %v", a.body, err)
	}
}
