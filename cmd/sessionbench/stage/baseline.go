package stage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/go-chi/chi/v5"
	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/cmd/sessionbench/load"
	"github.com/sessiond/sessiond/cmd/sessionbench/must"
)

// The baselines that sessiond is compared to.
const (
	Empty = "empty" // a chi handler that does nothing
	Plain = "plain" // the plain design
)

// The environment of a baseline. The Redis URL may hold a password, so it is not an argument.
const (
	EnvBaseline = "SESSIONBENCH_BASELINE" // the name; if it is set, the program is that baseline
	envAddr     = "SESSIONBENCH_ADDR"
	envRedisURL = "SESSIONBENCH_REDIS_URL"
	envKeysFile = "SESSIONBENCH_KEYS_FILE"
)

// ServeBaseline serves the baseline that the environment describes until ctx ends.
func ServeBaseline(ctx context.Context) (err error) {
	defer must.Catch(&err)
	check := func(http.ResponseWriter, *http.Request) {}
	if os.Getenv(EnvBaseline) == Plain {
		check = plainHandler(must.Get(os.ReadFile(os.Getenv(envKeysFile))), redis.NewClient(must.Get(redis.ParseURL(os.Getenv(envRedisURL)))))
	}
	r := chi.NewRouter()
	r.Get(load.CheckPath, check)
	r.Get("/readyz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ready") })
	listener := must.Get(new(net.ListenConfig).Listen(ctx, "tcp", os.Getenv(envAddr)))
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	if err := http.Serve(listener, r); !errors.Is(err, net.ErrClosed) { //nolint:gosec // G114: a timeout costs time on every request
		return err
	}
	return nil
}

func plainSession(id string) string   { return keyPrefix + "session:" + id }
func plainBlacklist(id string) string { return keyPrefix + "blacklist:" + id }

// plainHandler is the plain design: verify the signature, then ask Redis whether the session exists
// and the token is on the blacklist. It uses the same libraries as sessiond, with their defaults.
func plainHandler(keys []byte, client *redis.Client) http.HandlerFunc {
	var set jose.JSONWebKeySet
	must.Do(json.Unmarshal(keys, &set))
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"EdDSA", "ES256", "HS256"}), jwt.WithIssuer(issuerURL), jwt.WithAudience(issuerURL), jwt.WithExpirationRequired())
	keyOf := func(t *jwt.Token) (any, error) {
		id, _ := t.Header["kid"].(string)
		for _, k := range set.Key(id) {
			if secret, ok := k.Key.([]byte); ok && k.Algorithm == t.Method.Alg() {
				return secret, nil
			} else if k.Algorithm == t.Method.Alg() {
				return k.Public().Key, nil
			}
		}
		return nil, jwt.ErrTokenUnverifiable
	}
	return func(w http.ResponseWriter, r *http.Request) {
		var claims struct {
			jwt.RegisteredClaims
			SessionID string `json:"sid"`
		}
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if _, err := parser.ParseWithClaims(token, &claims, keyOf); err != nil || !ok {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		found, err := client.MGet(r.Context(), plainSession(claims.SessionID), plainBlacklist(claims.ID)).Result()
		switch {
		case err != nil:
			w.WriteHeader(http.StatusServiceUnavailable)
		case found[0] == nil || found[1] != nil:
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
}
