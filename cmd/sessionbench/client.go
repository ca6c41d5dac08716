package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// client is one keep-alive HTTP/1.1 connection that asks one question at a
// time. It is written by hand because the load comes from the machine under
// test: what a client spends is taken from the service. It allocates nothing.
type client struct {
	conn     net.Conn
	buf      [4096]byte // a head must fit
	from, to int        // of buf: what was received and not used yet
	scrap    [512]byte  // what is of no use
}

// answer is what a check needs of an HTTP answer. session is good until the next one.
type answer struct {
	status  int
	session []byte // X-Auth-Session
	// retryAfter is when to come back; 0: it was not told.
	retryAfter time.Duration
}

func dial(ctx context.Context, addr string) (*client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("dial a contender: %w", err)
	}
	return &client{conn: conn}, nil
}

// patience is how much longer than its turn an answer may take before the
// contender is given up.
const patience = 30 * time.Second

func (c *client) ask(wire []byte) (answer, error) {
	if _, err := c.conn.Write(wire); err != nil {
		return answer{}, fmt.Errorf("send a request: %w", err)
	}
	return c.read()
}

var errMalformed = errors.New("an answer that is not the HTTP we expect")

// read reads one answer: a head, and a body whose length it tells.
func (c *client) read() (answer, error) {
	if c.from == c.to {
		c.from, c.to = 0, 0
	}
	var head []byte
	for searched := c.from; ; {
		if i := bytes.Index(c.buf[searched:c.to], []byte("\r\n\r\n")); i >= 0 {
			head = c.buf[c.from : searched+i+2]
			c.from = searched + i + 4
			break
		}
		searched = max(c.from, c.to-3)
		if c.to == len(c.buf) {
			return answer{}, fmt.Errorf("%w: a head of more than %d bytes", errMalformed, len(c.buf))
		}
		n, err := c.conn.Read(c.buf[c.to:])
		if c.to += n; n == 0 && err != nil {
			return answer{}, fmt.Errorf("read an answer: %w", err)
		}
	}
	a, length, err := parseHead(head)
	if err != nil {
		return answer{}, err
	}
	return a, c.skip(length)
}

// skip passes over a body without touching the head in front of it.
func (c *client) skip(length int) error {
	have := min(length, c.to-c.from)
	c.from += have
	length -= have
	for length > 0 {
		n, err := c.conn.Read(c.scrap[:min(length, len(c.scrap))])
		if length -= n; n == 0 && err != nil {
			return fmt.Errorf("read a body: %w", errors.Join(err, io.ErrUnexpectedEOF))
		}
	}
	return nil
}

// parseHead reads the lines of a head, each ended by CR LF.
func parseHead(head []byte) (a answer, length int, err error) {
	const proto = "HTTP/1.1 "
	if len(head) < len(proto)+5 || string(head[:len(proto)]) != proto {
		return answer{}, 0, fmt.Errorf("%w: %.40q", errMalformed, head)
	}
	a.status, err = strconv.Atoi(string(head[len(proto) : len(proto)+3]))
	if err != nil {
		return answer{}, 0, fmt.Errorf("%w: %.40q", errMalformed, head)
	}
	length = -1
	head = head[bytes.IndexByte(head, '\n')+1:]
	for len(head) > 0 {
		end := bytes.IndexByte(head, '\n')
		line := head[:end-1]
		head = head[end+1:]
		switch {
		case isHeader(line, "x-auth-session"):
			a.session = bytes.TrimSpace(line[len("x-auth-session:"):])
		case isHeader(line, "retry-after"):
			seconds, err := strconv.Atoi(string(bytes.TrimSpace(line[len("retry-after:"):])))
			if err != nil {
				return answer{}, 0, fmt.Errorf("%w: %.40q", errMalformed, line)
			}
			a.retryAfter = time.Duration(seconds) * time.Second
		case isHeader(line, "content-length"):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len("content-length:"):]))); err != nil || length < 0 {
				return answer{}, 0, fmt.Errorf("%w: %.40q", errMalformed, line)
			}
		}
	}
	if length < 0 && a.status != 204 {
		return answer{}, 0, fmt.Errorf("%w: status %d without Content-Length", errMalformed, a.status)
	}
	return a, max(0, length), nil
}

func isHeader(line []byte, name string) bool {
	return len(line) > len(name) && line[len(name)] == ':' && bytes.EqualFold(line[:len(name)], []byte(name))
}

// clients are the connections to one contender.
type clients []*client

func dialAll(ctx context.Context, addr string, n int) (clients, error) {
	var cs clients
	for range n {
		c, err := dial(ctx, addr)
		if err != nil {
			cs.close()
			return nil, err
		}
		cs = append(cs, c)
	}
	return cs, nil
}

func (cs clients) close() {
	for _, c := range cs {
		_ = c.conn.Close() // it served; there is nothing to lose
	}
}

// bound ends what waits for an answer beyond d and patience, or when ctx ends.
func (cs clients) bound(ctx context.Context, d time.Duration) (release func() bool) {
	for _, c := range cs {
		_ = c.conn.SetDeadline(time.Now().Add(d + patience)) // a dead connection says so when it is used
	}
	return context.AfterFunc(ctx, func() {
		for _, c := range cs {
			_ = c.conn.SetDeadline(time.Unix(1, 0)) // as above
		}
	})
}
