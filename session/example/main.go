// Command example is a service that verifies sessiond's tokens in its own process. It uses sessiond's
// public keys and Redis. If Redis does not know a session, it asks sessiond's introspection endpoint.
//
//	SESSIOND_EXAMPLE_ADDR           the network address to listen on (default: 127.0.0.1:8081)
//	SESSIOND_EXAMPLE_REDIS_URL      same as sessiond's SESSIOND_REDIS_URL
//	SESSIOND_EXAMPLE_REDIS_PREFIX   same as sessiond's SESSIOND_REDIS_PREFIX
//	SESSIOND_EXAMPLE_URL            the URL of sessiond
//	SESSIOND_EXAMPLE_CLIENT_ID      the id that the command 'sessiond clients add' made
//	SESSIOND_EXAMPLE_CLIENT_SECRET  the secret that the command 'sessiond clients add' made
//	SESSIOND_EXAMPLE_ISSUER         same as sessiond's SESSIOND_ISSUER
//	SESSIOND_EXAMPLE_AUDIENCE       same as sessiond's SESSIOND_AUDIENCE
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func setting(name string) string { return os.Getenv("SESSIOND_EXAMPLE_" + name) }

func run(ctx context.Context) error {
	epochs, err := session.FetchEpochs(ctx, setting("URL")+"/.well-known/sessiond-epochs", session.RemoteOptions{})
	if err != nil {
		return err
	}
	store, err := redisstore.Open(setting("REDIS_URL"), redisstore.Options{Epochs: epochs, Prefix: setting("REDIS_PREFIX")})
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // ignore the error, because the program ends
	keys, err := session.FetchKeys(ctx, setting("URL")+"/.well-known/jwks.json", session.RemoteOptions{})
	if err != nil {
		return err
	}
	introspection, err := session.NewIntrospection(setting("URL")+"/oauth/introspect",
		setting("CLIENT_ID"), setting("CLIENT_SECRET"), session.RemoteOptions{})
	if err != nil {
		return err
	}
	verifier := &session.Verifier{
		Keys: keys, Issuer: setting("ISSUER"), Audience: setting("AUDIENCE"), Store: store, Fallback: introspection,
		Signatures: session.NewSignatureCache(10_000),
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /whoami", func(w http.ResponseWriter, r *http.Request) {
		claims, _ := session.ClaimsFrom(r.Context())
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{"username": claims.Username, "session": claims.SessionID})
	})
	return serve(ctx, verifier.Middleware(mux))
}

func serve(ctx context.Context, h http.Handler) error {
	addr := setting("ADDR")
	if addr == "" {
		addr = "127.0.0.1:8081"
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	slog.Info("serving", "addr", listener.Addr().String())
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	stopped := make(chan error, 1)
	context.AfterFunc(ctx, func() { stopped <- server.Shutdown(context.WithoutCancel(ctx)) })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}
