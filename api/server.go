package api

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
)

// The time-outs of a connection.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second // less than the time that a shutdown waits; an unfinished request body would delay it
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute
)

// Server answers requests with net/http. Every response has the security headers, also the response to
// a request that net/http itself would refuse.
type Server struct {
	http     *http.Server
	stopping atomic.Bool // true: each connection closes after its next answer
}

// NewServer returns a server for [Server.Serve].
func NewServer(h http.Handler, log *slog.Logger) *Server {
	s := new(Server)
	s.http = &http.Server{
		Handler:           secure(closeAfterChunks(s.parting(h))),
		ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	return s
}

// Serve answers the requests that arrive at l. After Shutdown it returns [http.ErrServerClosed].
func (s *Server) Serve(l net.Listener) error { return s.http.Serve(strictListener{l}) }

// Drain makes each connection close after its next answer. A client that keeps its connection until
// Shutdown may lose a request, because Shutdown closes an idle connection even if a request is arriving on
// it.
func (s *Server) Drain() { s.stopping.Store(true) }

// Shutdown closes the listener and waits until all requests are answered, or until ctx is done.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

func (s *Server) parting(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.stopping.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// closeAfterChunks closes the connection after a request with a chunked body. strictConn does not
// follow the chunks, and therefore does not know where the next request would begin.
func closeAfterChunks(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TransferEncoding != nil {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// strictListener is a listener whose connections are of the type strictConn.
type strictListener struct{ net.Listener }

func (l strictListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &strictConn{Conn: c}, nil
}

// strictConn is a connection on which the server sees only requests that readHead accepts. To the
// server, the client seems to close the connection instead of sending another request. strictConn
// sends the refusal when the server closes the connection. By then, all earlier requests are answered.
type strictConn struct {
	net.Conn
	held  []byte // bytes that were read from the connection, and not yet by the server
	ready int    // number of held bytes that the server may read
	body  int64  // bytes of the last request's body that were not yet read from the connection

	headTimeout time.Duration // how long an incomplete head may take; 0: as long as the server's deadline allows
	hurried     bool          // headTimeout has replaced the server's deadline

	refusal atomic.Pointer[errRequest] // the reason for refusing the next request
	hasBody atomic.Bool                // a request had a body, which may still be on its way
	closed  atomic.Bool
}

// Read reads bytes of requests that readHead accepts.
func (c *strictConn) Read(p []byte) (int, error) {
	if len(c.held) == 0 {
		n, err := c.Conn.Read(p)
		data, ready := c.admit(p[:n])
		c.held = append(c.held, data[ready:]...)
		if ready > 0 || n == 0 {
			return ready, err
		}
	}
	for c.ready == 0 {
		if c.refusal.Load() != nil {
			return 0, io.EOF
		}
		if c.headTimeout > 0 && !c.hurried {
			c.hurried = true
			_ = c.SetReadDeadline(time.Now().Add(c.headTimeout))
		}
		c.held = slices.Grow(c.held, 1<<10)
		n, err := c.Conn.Read(c.held[len(c.held):cap(c.held)])
		if n == 0 && err != nil {
			return 0, err
		}
		c.held, c.ready = c.admit(c.held[:len(c.held)+n])
	}
	n := copy(p, c.held[:c.ready])
	c.held, c.ready = c.held[n:], c.ready-n
	if len(c.held) == 0 {
		c.held = nil // free the memory, because a connection may stay idle for minutes
	}
	return n, nil
}

// admit returns how many of the next bytes the server may read. The others belong to a head that is
// incomplete or refused. It removes empty lines before a request, which some clients send after a body
// (RFC 9112 section 2.2).
func (c *strictConn) admit(data []byte) (all []byte, n int) {
	for n < len(data) {
		if c.body > 0 {
			body := min(c.body, int64(len(data)-n))
			n, c.body = n+int(body), c.body-body
			continue
		}
		if bytes.HasPrefix(data[n:], []byte("\r\n")) {
			data = append(data[:n], data[n+2:]...)
			continue
		}
		h, err := readHead(data[n:])
		if err != nil {
			c.refusal.Store(err)
			break
		}
		if h.size == 0 {
			break
		}
		if n, c.body = n+h.size, h.body; c.body > 0 {
			c.hasBody.Store(true)
		}
	}
	return data, n
}

// Close sends the refusal of a request, if there is one, and closes the connection.
func (c *strictConn) Close() error {
	if err := c.refusal.Load(); err != nil && !c.closed.Swap(true) {
		c.refuse(err)
	}
	return c.Conn.Close()
}

// CloseWrite tells the client that no more bytes will follow.
func (c *strictConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

const (
	// linger is how long a client may take to read the last response.
	linger = 500 * time.Millisecond
	// lingerBytes is how many more bytes of such a client are read and ignored.
	lingerBytes = 256 << 10
)

// refuse sends a response, and then ignores the client.
func (c *strictConn) refuse(err *errRequest) {
	body, _ := json.Marshal(problemOf(err, nil)) // a Problem can always be encoded
	h := securityHeaders.Clone()
	h.Set("Content-Type", "application/problem+json; charset=utf-8")
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	var out bytes.Buffer
	response := http.Response{
		StatusCode: err.status, ProtoMajor: 1, ProtoMinor: 1, Header: h, Close: true,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
	}
	_ = response.Write(&out) // a bytes.Buffer returns no error
	_ = c.SetDeadline(time.Now().Add(linger))
	if _, err := c.Write(out.Bytes()); err == nil {
		c.ignoreRest()
	}
}

// ignoreRest reads what the client still sends, because closing a connection with unread bytes could
// make the client's system discard the response.
func (c *strictConn) ignoreRest() {
	_ = c.SetDeadline(time.Now().Add(linger))
	if c.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
	}
}
