package api

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"
)

// ExtAuthzServer answers gateways that ask by gRPC, such as Envoy with its filter ext_authz. The answers
// are those of /v1/verify. The server also has the standard health service of gRPC.
type ExtAuthzServer struct {
	authv3.UnimplementedAuthorizationServer
	api    *API
	server *grpc.Server
	health *health.Server
}

const (
	// maxQuestion is the size of the largest question, in bytes. By default, Envoy accepts requests whose
	// headers have up to 60 KiB.
	maxQuestion = 256 << 10
	// connectionAge is how long a gateway may use a connection. It then opens a new one, which a load
	// balancer can send to a replica that has started since.
	connectionAge = 5 * time.Minute
	// connectionGrace is how long the questions of an old connection may still take.
	connectionGrace = 10 * time.Second
	// keepAliveTime is the pause after which a silent gateway is asked whether it is still there.
	keepAliveTime = 30 * time.Second
	// questionTime is longer than any question takes, also while both stores are down.
	questionTime = 3 * time.Second
	// maxQuestions is how many questions a connection may ask at once.
	maxQuestions = 1000
)

// NewExtAuthzServer returns a server for [ExtAuthzServer.Serve].
func (a *API) NewExtAuthzServer() *ExtAuthzServer {
	s := &ExtAuthzServer{api: a, health: health.NewServer()}
	s.server = grpc.NewServer(
		grpc.UnaryInterceptor(withoutPanic),
		grpc.MaxRecvMsgSize(maxQuestion), grpc.MaxConcurrentStreams(maxQuestions), grpc.ConnectionTimeout(readHeaderTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: idleTimeout, MaxConnectionAge: connectionAge, MaxConnectionAgeGrace: connectionGrace,
			Time: keepAliveTime, Timeout: connectionGrace,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: readHeaderTimeout, PermitWithoutStream: true}),
	)
	authv3.RegisterAuthorizationServer(s.server, s)
	grpc_health_v1.RegisterHealthServer(s.server, s.health)
	return s
}

// Serve answers the questions that arrive at l. After Shutdown it returns [http.ErrServerClosed].
func (s *ExtAuthzServer) Serve(l net.Listener) error {
	if err := s.server.Serve(l); err != nil {
		return err
	}
	return http.ErrServerClosed
}

// Drain makes the health service say that no more questions should be sent.
func (s *ExtAuthzServer) Drain() { s.health.Shutdown() }

// Shutdown tells the gateways to leave, and waits until all questions are answered, at most until ctx is
// done. It does not wait for a gateway that watches the health service, because that call never ends.
func (s *ExtAuthzServer) Shutdown(ctx context.Context) error {
	answered, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	stop := context.AfterFunc(answered, s.server.Stop)
	defer stop()
	s.server.GracefulStop()
	return ctx.Err()
}

// withoutPanic turns a panic into an error of gRPC. Otherwise it would end the process.
func withoutPanic(ctx context.Context, in any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (out any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = grpcstatus.Error(codes.Internal, "panic")
		}
	}()
	return next(ctx, in)
}

const extAuthzRoute = authv3.Authorization_Check_FullMethodName

// Check answers one question. A fault of ours is a denial with status 503 instead of an error of gRPC,
// because a gateway may be configured to forward requests when the authorization service fails.
func (s *ExtAuthzServer) Check(ctx context.Context, in *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	question := in.GetAttributes().GetRequest().GetHttp()
	header := headersOf(question)
	answer := s.api.checkInSpan(ctx, &checkRequest{
		route: extAuthzRoute, method: question.GetMethod(), requestID: header.first(requestIDHeader),
		authorization: header.values("Authorization"), peer: s.clientOf(ctx, in), header: header.values,
	})
	if answer.status == http.StatusOK {
		return allowed(answer, header), nil
	}
	return denied(answer), nil
}

// clientOf returns the address of the client as a trusted gateway reports it, and otherwise that of the
// gateway.
func (s *ExtAuthzServer) clientOf(ctx context.Context, in *authv3.CheckRequest) netip.Addr {
	var gateway netip.Addr
	if from, ok := peer.FromContext(ctx); ok {
		gateway = addrOf(from.Addr)
	}
	if !s.api.isTrusted(gateway) {
		return gateway
	}
	client, err := netip.ParseAddr(in.GetAttributes().GetSource().GetAddress().GetSocketAddress().GetAddress())
	if err != nil {
		return gateway
	}
	return client.Unmap().WithZone("")
}

// clientHeaders are the headers of the request that the gateway wants to forward, by name in lower case.
type clientHeaders map[string][]string

func headersOf(question *authv3.AttributeContext_HttpRequest) clientHeaders {
	h := clientHeaders{}
	for _, field := range question.GetHeaderMap().GetHeaders() { // the gateway sends encode_raw_headers
		name := strings.ToLower(field.GetKey())
		h[name] = append(h[name], field.GetValue()+string(field.GetRawValue()))
	}
	for name, value := range question.GetHeaders() {
		h[strings.ToLower(name)] = []string{value}
	}
	// The gateway has joined headers of the same name. A token contains no comma.
	if values := h["authorization"]; len(values) == 1 {
		h["authorization"] = strings.Split(values[0], ",")
	}
	return h
}

func (h clientHeaders) values(name string) []string { return h[strings.ToLower(name)] }

func (h clientHeaders) first(name string) string {
	if values := h.values(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

// allowed returns the answer that lets a request pass. It replaces the identity headers, and removes all
// other spellings of them that the client sent, because CGI, WSGI, Rack and PHP read x_auth_subject like
// x-auth-subject.
func allowed(answer checkAnswer, sent clientHeaders) *authv3.CheckResponse {
	ok := &authv3.OkHttpResponse{}
	identity := map[string]bool{} // by the letters and digits of the name
	names := map[string]bool{}
	for _, field := range answer.header {
		if field.name == requestIDHeader {
			continue // the request keeps the id that the gateway gave it
		}
		name := strings.ToLower(field.name)
		names[name], identity[foldName(name)] = true, true
		ok.Headers = append(ok.Headers, headerOption(name, field.value))
	}
	for name := range sent {
		if !names[name] && identity[foldName(name)] {
			ok.HeadersToRemove = append(ok.HeadersToRemove, name)
		}
	}
	return &authv3.CheckResponse{
		Status:       &status.Status{Code: int32(codes.OK)},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: ok},
	}
}

// foldName returns the letters and digits of a header's name, in lower case.
func foldName(name string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(name))
}

func denied(answer checkAnswer) *authv3.CheckResponse {
	d := &authv3.DeniedHttpResponse{
		Status: &typev3.HttpStatus{Code: typev3.StatusCode(answer.status)}, //nolint:gosec // a status is below 600
		Body:   string(answer.body),
	}
	for _, fields := range [][]headerField{secureFields, answer.header} {
		for _, field := range fields {
			if field.name != "Content-Length" { // the gateway sets it
				d.Headers = append(d.Headers, headerOption(strings.ToLower(field.name), field.value))
			}
		}
	}
	return &authv3.CheckResponse{
		Status:       &status.Status{Code: int32(codeOf(answer.status))}, //nolint:gosec // a code is below 20
		HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: d},
	}
}

func headerOption(name, value string) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}
}

// codeOf returns the code of gRPC that says the same as an HTTP status.
func codeOf(httpStatus int) codes.Code {
	switch httpStatus {
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusServiceUnavailable:
		return codes.Unavailable
	case http.StatusInternalServerError:
		return codes.Internal
	default:
		return codes.InvalidArgument
	}
}
