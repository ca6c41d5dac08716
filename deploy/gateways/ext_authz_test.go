package gateways_test

import (
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// extAuthz asks sessiond by gRPC and does with the answer what Envoy's filter ext_authz does, because
// Envoy itself is in no package registry that the tests use. See
// https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/auth/v3/external_auth.proto
type extAuthz struct {
	conn  *grpc.ClientConn
	app   *httputil.ReverseProxy
	raw   bool // send encode_raw_headers
	allow bool // failure_mode_allow
}

// startExtAuthz starts a gateway in front of an application, and returns the gateway's address.
func startExtAuthz(t *testing.T, sessiond, app string, raw, allow bool) (addr string) {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+sessiond, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: app})
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	proxy.Transport = transport
	server := httptest.NewServer(&extAuthz{conn, proxy, raw, allow})
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func (g *extAuthz) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
	defer cancel()
	r.Header.Del("Connection") // Envoy removes it before its filters run
	answer, err := authv3.NewAuthorizationClient(g.conn).Check(ctx, g.question(r), grpc.WaitForReady(true))
	switch {
	case err != nil && g.allow:
		g.app.ServeHTTP(w, r)
	case err != nil: // status_on_error of envoy-grpc.yaml, and its local reply
		w.Header().Set("Retry-After", "2")
		w.WriteHeader(http.StatusServiceUnavailable)
	case answer.GetStatus().GetCode() == int32(codes.OK):
		for _, option := range answer.GetOkResponse().GetHeaders() {
			r.Header.Set(option.GetHeader().GetKey(), option.GetHeader().GetValue())
		}
		for _, name := range answer.GetOkResponse().GetHeadersToRemove() { // Envoy removes after it has set
			maps.DeleteFunc(r.Header, func(have string, _ []string) bool { return strings.EqualFold(have, name) })
		}
		g.app.ServeHTTP(w, r)
	default:
		denied := answer.GetDeniedResponse()
		for _, option := range denied.GetHeaders() {
			w.Header().Set(option.GetHeader().GetKey(), option.GetHeader().GetValue())
		}
		w.WriteHeader(int(denied.GetStatus().GetCode()))
		_, _ = w.Write([]byte(denied.GetBody()))
	}
}

// question returns the attributes of a request. Envoy writes the names of headers in lower case, and
// joins headers of the same name.
func (g *extAuthz) question(r *http.Request) *authv3.CheckRequest {
	asked := &authv3.AttributeContext_HttpRequest{Id: "1", Method: r.Method, Path: r.RequestURI, Host: r.Host, Scheme: "http", Protocol: r.Proto}
	if g.raw {
		asked.HeaderMap = new(corev3.HeaderMap)
	} else {
		asked.Headers = map[string]string{}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		lower := strings.ToLower(name)
		if !g.raw {
			asked.Headers[lower] = strings.Join(r.Header[name], ",")
			continue
		}
		for _, value := range r.Header[name] {
			asked.HeaderMap.Headers = append(asked.HeaderMap.Headers, &corev3.HeaderValue{Key: lower, RawValue: []byte(value)})
		}
	}
	client := netip.MustParseAddrPort(r.RemoteAddr)
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		Source:  &authv3.AttributeContext_Peer{Address: socketAddress(client)},
		Request: &authv3.AttributeContext_Request{Http: asked},
	}}
}

func socketAddress(a netip.AddrPort) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: a.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}

func TestExtAuthz_ForwardsOnlyRequestsOfActiveSessions_ASVS_V4_1_3(t *testing.T) {
	for name, raw := range map[string]bool{"joined headers": false, "raw headers": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := freeAddr(t)
			s := &site{service: startService(t, "SESSIOND_EXT_AUTHZ_ADDR="+addr), app: startApp(t)}
			s.addr = startExtAuthz(t, addr, s.app.addr, raw, false)
			s.alice = s.register(t, oddName, "zoe@example.com")
			s.bob = s.register(t, "bob", "bob@example.com")
			for _, c := range []struct {
				name string
				test func(*testing.T, *site)
			}{
				{"adds the identity headers", testIdentity},
				{"returns 401 without a valid token", testNoToken},
				{"removes forged identity headers", testForgedHeaders},
				{"refuses two tokens", testTwoTokens},
				{"does not change the application's answer", testAnswerUnchanged},
				{"returns 401 as soon as a session is revoked", testRevoked},
				{"does not mix up concurrent requests", testConcurrent},
				{"returns 503 while both stores are down", testStoresDown},
				{"returns 503 while sessiond is down", testServiceDown},
			} {
				if !t.Run(c.name, func(t *testing.T) { c.test(t, s) }) {
					return
				}
			}
		})
	}
}

// A gateway that forwards requests when sessiond does not answer must still refuse them when sessiond
// says that it cannot check a token.
func TestExtAuthz_NeverFailsOpen_ASVS_V16_5_2(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	s := &site{service: startService(t, "SESSIOND_EXT_AUTHZ_ADDR="+addr), app: startApp(t)}
	s.addr = startExtAuthz(t, addr, s.app.addr, false, true)
	alice := s.register(t, "alice", "alice@example.com")
	dial(t, s.addr).ask("GET", "/things", nil, alice.bearer()).want(t, 200)
	s.app.take()
	s.redis.cut()
	s.postgres.cut()
	c := dial(t, s.addr)
	for range 5 {
		c.do("GET", "/things", nil, alice.bearer()).wantUnavailable(t)
	}
	s.app.wantNone(t)
}

// The answers must be those of /v1/verify: status, body, challenge and security headers.
func TestExtAuthz_AnswersLikeMainPort(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	s := startService(t, "SESSIOND_EXT_AUTHZ_ADDR="+addr)
	alice := s.register(t, "alice", "alice@example.com")
	gone := s.login(t, "alice")
	s.logout(t, gone)
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := authv3.NewAuthorizationClient(conn)
	for _, method := range []string{"GET", "HEAD", "POST", "BREW", "TRACE"} {
		for _, authorization := range []string{"Bearer " + alice.token, "Bearer " + gone.token, "Bearer nonsense", "Basic Ym9iOmJvYg==", ""} {
			main := dial(t, s.addr).ask(method, "/v1/verify", nil, "Authorization: "+authorization, "X-Request-Id: gateway-1")
			answer, err := client.Check(t.Context(), &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
				Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
					Method: method, Path: "/things", Headers: map[string]string{"authorization": authorization, "x-request-id": "gateway-1"},
				}},
			}})
			if err != nil {
				t.Fatal(err)
			}
			what := method + " " + authorization
			if main.status == http.StatusOK {
				if answer.GetStatus().GetCode() != int32(codes.OK) || len(answer.GetOkResponse().GetHeadersToRemove()) > 0 {
					t.Errorf("%s: got %v, want OK", what, answer)
				}
				for _, option := range answer.GetOkResponse().GetHeaders() {
					if h := option.GetHeader(); main.header.Get(h.GetKey()) != h.GetValue() || !strings.HasPrefix(h.GetKey(), "x-auth-") {
						t.Errorf("%s: the request gets %s: %s", what, h.GetKey(), h.GetValue())
					}
				}
				continue
			}
			denied := answer.GetDeniedResponse()
			if int(denied.GetStatus().GetCode()) != main.status || method != "HEAD" && denied.GetBody() != string(main.body) {
				t.Errorf("%s: got %v, want status %d and %s", what, denied, main.status, main.body)
			}
			sent := http.Header{}
			for _, option := range denied.GetHeaders() {
				sent.Add(option.GetHeader().GetKey(), option.GetHeader().GetValue())
			}
			for _, name := range []string{"Date", "Content-Length", "Connection"} { // the gateway's own
				main.header.Del(name)
			}
			if !maps.EqualFunc(sent, main.header, slices.Equal) {
				t.Errorf("%s: got the headers %v, want %v", what, sent, main.header)
			}
		}
	}
	// A question without a request is refused.
	if answer, err := client.Check(t.Context(), &authv3.CheckRequest{}); err != nil || answer.GetDeniedResponse().GetStatus().GetCode() != http.StatusUnauthorized {
		t.Errorf("an empty question: got %v %v, want 401", answer, err)
	}
	health, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || health.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v %v, want SERVING", health, err)
	}
}
