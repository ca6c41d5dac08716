package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// fasthttp uses the memory of a request again, so a label must not be a part of it.
func TestCheckServer_CountsRequestsUnderTheirMethods(t *testing.T) {
	registry := prometheus.NewRegistry()
	server := start(t, 404, (&API{Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(registry)}).NewCheckServer())
	a, b := server.dial(t), server.dial(t)
	for _, request := range []struct {
		client rawClient
		line   string
		status int
	}{{a, "GET /livez", 200}, {a, "PUT /v1/verify", 401}, {b, "GET /livez", 200}, {a, "GET /livez", 200}, {b, "DELETE /livez", 405}} {
		request.client.send(t, request.line+" HTTP/1.1\r\nHost: x\r\n\r\n")
		request.client.want(t, request.status)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if method := label.GetValue(); label.GetName() == "method" && methodLabel(method) != method {
					t.Errorf("%s has the method %q", family.GetName(), method)
				}
			}
		}
	}
}

// fullListener has no file descriptors left at first.
type fullListener struct {
	net.Listener
	failures int
}

func (l *fullListener) Accept() (net.Conn, error) {
	if l.failures > 0 {
		l.failures--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestCheckServer_GoesOnAfterItHadNoFileDescriptors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := (&API{Log: slog.New(slog.DiscardHandler)}).NewCheckServer()
	done := make(chan error, 1)
	go func() { done <- server.Serve(&fullListener{l, 3}) }()
	client := rawServer{addr: l.Addr().String()}.dial(t)
	client.send(t, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	client.want(t, 200)
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

func TestCheckServer_EndsIfShutdownComesFirst(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := (&API{Log: slog.New(slog.DiscardHandler)}).NewCheckServer()
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// fasthttp refuses this head, and its message quotes it.
func TestCheckServer_LogsNoTokenOfRefusedRequest(t *testing.T) {
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug}))
	server := (&API{Log: log}).NewCheckServer()
	t.Run("request", func(t *testing.T) {
		client := start(t, 404, server).dial(t)
		client.send(t, "GET /v1/verify HTTP/1.1\r\nHost:\r\nAuthorization: Bearer canary\r\n\r\n")
		client.want(t, 400)
	})
	if logged := text.String(); strings.Contains(logged, "canary") || !strings.Contains(logged, "status=400") {
		t.Errorf("the log is %q, want the refusal without the token", logged)
	}
}

func TestExtAuthzServer_StopsWhileItsHealthIsWatched(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := (&API{Log: slog.New(slog.DiscardHandler)}).NewExtAuthzServer()
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	watch, err := grpc_health_v1.NewHealthClient(conn).Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := func(status grpc_health_v1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		if answer, err := watch.Recv(); err != nil || answer.GetStatus() != status {
			t.Errorf("health: %v %v, want %v", answer, err, status)
		}
	}
	want(grpc_health_v1.HealthCheckResponse_SERVING)
	server.Drain()
	want(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}
