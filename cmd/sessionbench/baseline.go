package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/golang-jwt/jwt/v5"
	"github.com/redis/go-redis/v9"
)

// baselineVerb starts one of the handlers that the service is compared to, as
// a process of its own. It is not for people.
const baselineVerb = "serve-baseline"

// What a baseline is told, in its environment: a URL may hold a password.
const (
	envRedisURL = "SESSIONBENCH_REDIS_URL"
	envPrefix   = "SESSIONBENCH_REDIS_PREFIX"
	envKeysFile = "SESSIONBENCH_KEYS_FILE"
)

// runBaseline serves, says where on stdout, and ends when its standard input does:
// so it never outlives the process that started it.
func runBaseline(ctx context.Context, args []string, env func(string) (string, bool), stdout io.Writer) error {
	if len(args) != 1 {
		return fmt.Errorf("%s: name one baseline", baselineVerb)
	}
	handler := emptyHandler()
	if args[0] == plain {
		get := func(name string) string { value, _ := env(name); return value }
		options, err := redis.ParseURL(get(envRedisURL))
		if err != nil {
			return errors.New("the Redis URL cannot be read")
		}
		client := redis.NewClient(options)
		defer client.Close() //nolint:errcheck // nothing was written
		ks, err := readKeys(get(envKeysFile))
		if err != nil {
			return err
		}
		handler = plainHandler(ks, client, get(envPrefix))
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("%s: %w", baselineVerb, err)
	}
	fmt.Fprintln(stdout, listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // it ends, and that is all it tells
		_ = listener.Close()
	}()
	err = http.Serve(listener, handler) //nolint:gosec // G114: bare on purpose; a limit costs time on every request
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// emptyHandler is the most that a Go service behind chi can do: nothing.
func emptyHandler() http.Handler {
	r := chi.NewRouter()
	r.Get(checkPath, func(http.ResponseWriter, *http.Request) {})
	return r
}

// plainClaims are what the plain design reads of a token.
type plainClaims struct {
	jwt.RegisteredClaims
	SessionID string `json:"sid"`
}

func plainSession(prefix, id string) string   { return prefix + "session:" + id }
func plainBlacklist(prefix, id string) string { return prefix + "blacklist:" + id }

// plainHandler is the plain design: verify the signature, then ask Redis whether the
// session lives and the token is not on the blacklist. The libraries are ours and
// their settings the defaults.
func plainHandler(ks keys, client *redis.Client, prefix string) http.Handler {
	methods := make([]string, 0, len(ks))
	for alg := range ks {
		methods = append(methods, alg)
	}
	parser := jwt.NewParser(jwt.WithValidMethods(methods), jwt.WithIssuer(tokenIssuer), jwt.WithAudience(tokenIssuer), jwt.WithExpirationRequired())
	keyOf := func(t *jwt.Token) (any, error) {
		k := ks[t.Method.Alg()]
		if t.Header["kid"] != k.id {
			return nil, jwt.ErrTokenUnverifiable
		}
		return k.public, nil
	}
	r := chi.NewRouter()
	r.Get(checkPath, func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		var claims plainClaims
		if _, err := parser.ParseWithClaims(token, &claims, keyOf); err != nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		found, err := client.MGet(r.Context(), plainSession(prefix, claims.SessionID), plainBlacklist(prefix, claims.ID)).Result()
		switch {
		case err != nil:
			w.WriteHeader(http.StatusServiceUnavailable)
		case found[0] == nil || found[1] != nil:
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.WriteHeader(http.StatusOK)
		}
	})
	return r
}
