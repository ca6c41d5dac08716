package api

import (
	"bytes"
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
	"sync/atomic"

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
}

// NewCheckServer returns a server for the listener of [CheckServer.Serve].
func (a *API) NewCheckServer() *CheckServer {
	routes := a.router(a.livenessRoute)
	others := func(w http.ResponseWriter, r *http.Request) { serveRoutes(routes, w, r) }
	s := &CheckServer{api: a, others: fasthttpadaptor.NewFastHTTPHandler(secure(http.HandlerFunc(others)))}
	s.checks, s.stop = context.WithCancel(context.Background())
	s.server = &fasthttp.Server{
		Handler: s.handle, ErrorHandler: s.refuse, HeaderReceived: withoutBody,
		ReadTimeout: readHeaderTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		ReadBufferSize:        maxHead + 1<<10,
		NoDefaultServerHeader: true, NoDefaultContentType: true,
		LazyRequestTime: true, CloseOnShutdown: true,
		Logger: slog.NewLogLogger(a.Log.Handler(), slog.LevelDebug),
	}
	return s
}

// Serve answers the requests that arrive at l. After Shutdown it returns [http.ErrServerClosed].
func (s *CheckServer) Serve(l net.Listener) error {
	if err := s.server.Serve(checkListener{l}); err != nil {
		return err
	}
	return http.ErrServerClosed
}

// Drain makes each connection close after its next answer.
func (s *CheckServer) Drain() { s.stopping.Store(true) }

// Shutdown closes the listener and waits until all requests are answered, or until ctx is done.
func (s *CheckServer) Shutdown(ctx context.Context) error {
	defer s.stop()
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
	if !isCheckTarget(r.RequestURI()) {
		s.others(ctx)
		return
	}
	values := func(name string) []string { return headerValues(r, name) }
	answer := s.api.checkInSpan(s.checks, &checkRequest{
		route: verifyPattern, method: string(r.Method()), requestID: string(r.Peek(requestIDHeader)),
		authorization: values("Authorization"), peer: addrOf(ctx.RemoteAddr()), header: values,
	})
	ctx.SetStatusCode(answer.status)
	h.DisableNormalizing() // all names are in canonical form
	for _, field := range secureFields {
		h.Add(field.name, field.value)
	}
	for _, field := range answer.header {
		h.Add(field.name, field.value)
	}
	ctx.SetBody(answer.body)
}

// secureFields are the security headers of [secure].
var secureFields = func() (fields []headerField) {
	for _, name := range slices.Sorted(maps.Keys(securityHeaders)) {
		fields = append(fields, headerField{name, securityHeaders.Get(name)})
	}
	return fields
}()

// isCheckTarget reports whether net/http would take the target of a request for /v1/verify.
func isCheckTarget(target []byte) bool {
	if bytes.Equal(target, []byte(verifyPattern)) {
		return true
	}
	u, err := url.ParseRequestURI(string(target))
	return err == nil && isGatewayCheck(u.Path)
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

// refuse answers a request that fasthttp refuses, although [readHead] accepted it.
func (s *CheckServer) refuse(ctx *fasthttp.RequestCtx, err error) {
	answer := s.api.refuse(&logEntry{id: requestID("")}, errBadHead)
	ctx.SetStatusCode(answer.status)
	for _, field := range slices.Concat(secureFields, answer.header) {
		ctx.Response.Header.Add(field.name, field.value)
	}
	ctx.SetBody(answer.body)
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
type checkListener struct{ net.Listener }

func (l checkListener) Accept() (net.Conn, error) {
	c, err := strictListener(l).Accept()
	if err != nil {
		return nil, err
	}
	return checkConn{c.(*strictConn)}, nil
}

// checkConn is a strictConn on which a silent client gets no answer. fasthttp would send it a 408, and
// a gateway could take that for the answer to its next request.
type checkConn struct{ *strictConn }

func (c checkConn) Read(p []byte) (int, error) {
	n, err := c.strictConn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = io.EOF
	}
	return n, err
}

// Close lets the client read the answer to a request whose body was not read. Nothing that follows such a
// body is answered.
func (c checkConn) Close() error {
	if !c.hasBody.Load() {
		return c.strictConn.Close()
	}
	c.ignoreRest()
	return c.Conn.Close()
}
