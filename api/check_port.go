package api

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
)

// CheckServer answers /v1/verify and /livez on a listener for gateways. The answers are those of the
// main port. They cost less, because fasthttp uses the memory of a connection again for each request.
type CheckServer struct {
	api    *API
	others fasthttp.RequestHandler // answers everything but /v1/verify
	server *fasthttp.Server

	checks   context.Context // of all checks, because the context of a request must not outlive it
	stop     context.CancelFunc
	stopping atomic.Bool // true: each connection closes after its next answer

	mu       sync.Mutex
	closed   bool
	listener net.Listener
}

// NewCheckServer returns a server for the listener of [CheckServer.Serve].
func (a *API) NewCheckServer() *CheckServer {
	routes := a.router(a.livenessRoute)
	others := func(w http.ResponseWriter, r *http.Request) {
		r.Method = strings.Clone(r.Method) // fasthttp uses its memory again, and the metrics keep it
		serveRoutes(routes, w, r)
	}
	s := &CheckServer{api: a, others: fasthttpadaptor.NewFastHTTPHandler(secure(http.HandlerFunc(others)))}
	s.checks, s.stop = context.WithCancel(context.Background())
	s.server = &fasthttp.Server{
		Handler: s.handle, ErrorHandler: s.refuse, HeaderReceived: withoutBody,
		ReadBufferSize:        maxHead + 1<<10,
		NoDefaultServerHeader: true, NoDefaultContentType: true,
		LazyRequestTime: true, CloseOnShutdown: true,
		Logger: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // its texts quote requests, which contain tokens
	}
	return s
}

// Serve answers the requests that arrive at l. After Shutdown it returns [http.ErrServerClosed].
func (s *CheckServer) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listener = &checkListener{Listener: l, close: sync.OnceValue(l.Close)}
	if s.closed {
		_ = s.listener.Close() // fasthttp would serve on, because Shutdown came first
	}
	s.mu.Unlock()
	if err := s.server.Serve(s.listener); err != nil {
		return err
	}
	return http.ErrServerClosed
}

// Drain makes each connection close after its next answer.
func (s *CheckServer) Drain() { s.stopping.Store(true) }

// Shutdown closes the listener and waits until all requests are answered, or until ctx is done.
func (s *CheckServer) Shutdown(ctx context.Context) error {
	defer s.stop()
	s.mu.Lock()
	s.closed = true
	if s.listener != nil {
		_ = s.listener.Close()
	}
	s.mu.Unlock()
	return s.server.ShutdownWithContext(ctx)
}

func (s *CheckServer) handle(ctx *fasthttp.RequestCtx) {
	if s.stopping.Load() {
		ctx.SetConnectionClose()
	}
	r, h := &ctx.Request.Header, &ctx.Response.Header
	if !r.IsHTTP11() {
		h.SetProtocol([]byte("HTTP/1.0"))
	}
	if path := targetPath(r); !isGatewayCheck(path) {
		if r.IsConnect() {
			r.SetRequestURI(cmp.Or(path, "/")) // the adapter understands no other target of CONNECT
		}
		s.others(ctx)
		return
	}
	q := questions.Get().(*question)
	defer questions.Put(q)
	q.head = r
	q.checkRequest = checkRequest{
		route: verifyPattern, method: methodOf(r), requestID: string(r.Peek(requestIDHeader)),
		authorization: q.values("Authorization"), peer: addrOf(ctx.RemoteAddr()), header: q.values,
	}
	answer := s.api.checkInSpan(s.checks, &q.checkRequest)
	write(ctx, answer)
}

func write(ctx *fasthttp.RequestCtx, answer checkAnswer) {
	ctx.SetStatusCode(answer.status)
	h := &ctx.Response.Header
	h.DisableNormalizing() // all names are in canonical form
	for _, field := range secureFields {
		h.Add(field.name, field.value)
	}
	for _, field := range answer.header {
		h.Add(field.name, field.value)
	}
	ctx.SetBody(answer.body)
}

// question is a checkRequest that is used again for a later request.
type question struct {
	checkRequest
	head   *fasthttp.RequestHeader
	values func(name string) []string
}

var questions = sync.Pool{New: func() any {
	q := new(question)
	q.values = func(name string) []string { return headerValues(q.head, name) }
	return q
}}

func methodOf(r *fasthttp.RequestHeader) string {
	if r.IsGet() {
		return http.MethodGet
	}
	return string(r.Method())
}

// secureFields are the security headers of [secure].
var secureFields = func() (fields []headerField) {
	for _, name := range slices.Sorted(maps.Keys(securityHeaders)) {
		fields = append(fields, headerField{name, securityHeaders.Get(name)})
	}
	return fields
}()

// targetPath returns the path of a request as net/http understands its target.
func targetPath(r *fasthttp.RequestHeader) string {
	if bytes.Equal(r.RequestURI(), []byte(verifyPattern)) {
		return verifyPattern
	}
	target := string(r.RequestURI())
	if r.IsConnect() && !strings.HasPrefix(target, "/") {
		target = "http://" + target
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return ""
	}
	return u.Path
}

func headerValues(r *fasthttp.RequestHeader, name string) []string {
	var values []string
	for _, value := range r.PeekAll(name) {
		values = append(values, string(value))
	}
	return values
}

// addrOf returns the IP address of one end of a connection.
func addrOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}

// refuse answers a request that fasthttp refuses, although [readHead] accepted it. The error of fasthttp
// may quote the request, and is not logged.
func (s *CheckServer) refuse(ctx *fasthttp.RequestCtx, _ error) {
	entry := &logEntry{start: time.Now(), id: requestID(""), method: "other", route: "other", level: slog.LevelInfo, clientIP: addrOf(ctx.RemoteAddr())}
	answer := s.api.refuse(entry, errBadHead)
	write(ctx, answer)
	ctx.Response.SkipBody = ctx.IsHead()
	entry.status, entry.bytes = answer.status, len(answer.body)
	s.api.finish(s.checks, entry)
}

// withoutBody makes fasthttp answer before it has read the request body, which the client may never
// send. The rest of the connection is then unusable.
func withoutBody(r *fasthttp.RequestHeader) fasthttp.RequestConfig {
	r.Del("Expect")
	if n := r.ContentLength(); n > 0 || n == chunked {
		r.SetContentLength(0)
		r.SetConnectionClose()
	}
	return fasthttp.RequestConfig{}
}

// chunked is what fasthttp says of the length of a chunked body.
const chunked = -1

// checkListener is a listener whose connections are of the type checkConn.
type checkListener struct {
	net.Listener
	close func() error
}

// Accept waits and tries again if the process has no file descriptors left, as net/http does. fasthttp
// would stop serving.
func (l *checkListener) Accept() (net.Conn, error) {
	for delay := 5 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		c, err := strictListener{l.Listener}.Accept()
		if temporary := (interface{ Temporary() bool })(nil); errors.As(err, &temporary) && temporary.Temporary() {
			time.Sleep(delay)
			continue
		}
		if err != nil {
			return nil, err
		}
		conn := &checkConn{strictConn: c.(*strictConn)}
		conn.headTimeout = readHeaderTimeout
		_ = conn.SetReadDeadline(time.Now().Add(readHeaderTimeout)) // fails if the client has left, and so does Read
		return conn, nil
	}
}

// Close closes the listener. Another call does nothing.
func (l *checkListener) Close() error { return l.close() }

// checkConn is a strictConn with time-outs of its own, which cost less than two or three new deadlines for
// each request. A silent client gets no answer. fasthttp would send it a 408, and a gateway could take that
// for the answer to its next request.
type checkConn struct {
	*strictConn
	renewed time.Time // when the deadlines were set
}

// renewAfter is the age at which deadlines are set anew. A time-out may be this much too short.
const renewAfter = time.Second

func (c *checkConn) Read(p []byte) (int, error) {
	n, err := c.strictConn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return n, io.EOF
	}
	if now := time.Now(); err == nil && (c.hurried || now.Sub(c.renewed) > renewAfter) {
		c.hurried, c.renewed = false, now
		err = errors.Join(c.SetReadDeadline(now.Add(idleTimeout)), c.SetWriteDeadline(now.Add(writeTimeout)))
	}
	return n, err
}

// Close lets the client read the answer to a request whose body was not read. Nothing that follows such a
// body is answered.
func (c *checkConn) Close() error {
	if !c.hasBody.Load() {
		return c.strictConn.Close()
	}
	c.ignoreRest()
	return c.Conn.Close()
}
