// Package stage prepares measurements: it starts sessiond and the baseline servers, and creates
// databases, signing keys, tokens and sessions.
package stage

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	_ "github.com/lib/pq" // registers the database driver "postgres"
	"github.com/redis/go-redis/v9"
	"github.com/valyala/fasthttp"

	"github.com/sessiond/sessiond/cmd/sessionbench/load"
	"github.com/sessiond/sessiond/cmd/sessionbench/must"
	"github.com/sessiond/sessiond/sqlstore"
)

// Stage holds what all measurements share. Its methods end the run if a step fails.
type Stage struct {
	Say      func(format string, args ...any) // prints progress
	Builds   []Build
	Latest   Build // the last build, which is used if a measurement needs only one
	Keys     Keys
	Postgres *sql.DB // connection to the server of --database-url
	Redis    *redis.Client
	redisURL *url.URL
	db       *sqlstore.DB // Postgres database of the build Latest
	dir      string
	undo     []func() error // functions to call when the current Scope ends
	failed   []error        // errors that the functions in undo returned
}

// Build is one sessiond program and a Postgres database, which the program itself has migrated.
type Build struct{ Name, program, databaseURL string }

// Open creates signing keys and databases. Each of builds is the path of a sessiond program, or
// NAME=PATH. If builds is empty, Open builds this repository's sessiond. The caller must call Close.
func (s *Stage) Open(ctx context.Context, databaseURL, redisURL string, builds []string) {
	options, err := redis.ParseURL(redisURL)
	server, err2 := url.Parse(databaseURL)
	if err != nil || err2 != nil {
		must.Do(errors.New("--redis-url, --database-url: want URLs of one Redis and one PostgreSQL server")) // err is not added, because it may contain a password
	}
	s.redisURL, s.Redis = must.Get(url.Parse(redisURL)), redis.NewClient(options)
	s.Later(s.Redis.Close)
	s.Postgres = must.Get(sql.Open("postgres", databaseURL))
	s.Later(s.Postgres.Close)
	s.dir = must.Get(os.MkdirTemp("", "sessionbench-"))
	s.Later(func() error { return os.RemoveAll(s.dir) })
	s.Keys = makeKeys(s.keysFile())
	if len(builds) == 0 {
		builds = []string{filepath.Join(s.dir, "sessiond")}
		s.Say("building sessiond")
		_, file, _, _ := runtime.Caller(0)
		root := filepath.Join(filepath.Dir(file), "../../..")
		command(ctx, nil, "go", "build", "-C", root, "-o", builds[0], "./cmd/sessiond")
	}
	for _, b := range builds {
		name, program, named := strings.Cut(b, "=")
		if !named {
			name, program = "", b // a single build needs no name
		}
		s.Latest = s.WithNewDatabase(ctx, Build{name, program, server.String()})
		s.Builds = append(s.Builds, s.Latest)
	}
	s.db = must.Get(sqlstore.Open(ctx, s.Latest.databaseURL, sqlstore.Options{}))
	s.Later(s.db.Close)
}

// WithNewDatabase returns the build with a new database on the same Postgres server. Services that run
// at the same time on different Redis databases need one each, because in each Postgres database only
// one Redis database counts.
func (s *Stage) WithNewDatabase(ctx context.Context, b Build) Build {
	database := "sessionbench_" + strings.ToLower(rand.Text())
	must.Get(s.Postgres.ExecContext(ctx, "CREATE DATABASE "+database))
	s.Later(func() error {
		_, err := s.Postgres.ExecContext(context.WithoutCancel(ctx), "DROP DATABASE IF EXISTS "+database+" WITH (FORCE)")
		return err
	})
	u := must.Get(url.Parse(b.databaseURL))
	u.Path = "/" + database
	b.databaseURL = u.String()
	command(ctx, []string{"SESSIOND_DATABASE_URL=" + b.databaseURL}, b.program, "migrate")
	return b
}

func (s *Stage) keysFile() string { return filepath.Join(s.dir, "keys.json") }

func command(ctx context.Context, settings []string, name string, args ...string) {
	cmd := exec.CommandContext(ctx, name, args...) //nolint:gosec // G204: the command is go, or the program to measure
	cmd.Env = append(environment(), settings...)
	if out, err := cmd.CombinedOutput(); err != nil {
		must.Do(fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out))
	}
}

// environment returns os.Environ without SESSIOND_* and PG*, because sessiond must use defaults.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(setting string) bool {
		return strings.HasPrefix(setting, "SESSIOND_") || strings.HasPrefix(setting, "PG")
	})
}

// Later makes the current Scope call undo at its end.
func (s *Stage) Later(undo func() error) { s.undo = append(s.undo, undo) }

// Scope calls f. Then it calls, in reverse order, the functions that f passed to Later.
func (s *Stage) Scope(f func()) {
	outer := s.undo
	s.undo = nil
	defer func() {
		for i := len(s.undo) - 1; i >= 0; i-- {
			s.failed = append(s.failed, s.undo[i]())
		}
		s.undo = outer
	}()
	f()
}

func (s *Stage) Close() error {
	s.Scope(func() {})
	return errors.Join(s.failed...)
}

// Process is a running server that is measured. It is not part of the process of sessionbench,
// because only the CPU time and memory of a whole process can be measured.
type Process struct {
	PID             int
	Addr, metrics   string
	Check, ExtAuthz string // addresses of sessiond's listeners for gateways
}

// start starts a server, writes its standard error to a file, and waits until GET /readyz succeeds.
// The server is stopped when the current Scope ends.
func (s *Stage) start(ctx context.Context, p *Process, settings []string, words ...string) *Process {
	stderr := must.Get(os.CreateTemp(s.dir, "stderr-"))
	ctx, stop := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...) //nolint:gosec // G204: the command is sessionbench itself, or a program to measure
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second // time between SIGTERM and SIGKILL; sessiond stops sooner
	cmd.Env, cmd.Stderr = append(environment(), settings...), stderr
	must.Do(cmd.Start())
	p.PID = cmd.Process.Pid
	s.Later(func() error {
		stop()
		if err, failed := errors.AsType[*exec.ExitError](cmd.Wait()); failed && err.ExitCode() > 0 { // -1 means that a signal ended the server
			return fmt.Errorf("%s: %w", words[0], err)
		}
		return stderr.Close()
	})
	for begin := time.Now(); Get(p.Addr, "/readyz") == ""; time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > 15*time.Second {
			said, _ := os.ReadFile(stderr.Name())
			must.Do(fmt.Errorf("%s did not become ready within 15 s:\n%s", words[0], said))
		}
	}
	return p
}

// Service starts `sessiond serve` of a build, with the words of the parameter wrap in front of the command.
// Settings keep their defaults where possible. Rate limits are off, because all clients have one address.
// Users have as many sessions as they log in, as in builds before the maximum had a default.
// Logging is on, because the measurement includes its cost. The log goes to /dev/null.
func (s *Stage) Service(ctx context.Context, b Build, redisURL string, wrap []string, settings ...string) *Process {
	// The service begins epoch 1, in which Fill writes its sessions.
	db := must.Get(sql.Open("postgres", b.databaseURL))
	_, _ = db.ExecContext(ctx, "DELETE FROM redis_epochs") // fails if the build is older than this table
	_ = db.Close()
	return s.Join(ctx, b, redisURL, wrap, settings...)
}

// Join is like Service, for one more replica beside those that run on the same database and Redis. They
// keep their epochs.
func (s *Stage) Join(ctx context.Context, b Build, redisURL string, wrap []string, settings ...string) *Process {
	p := &Process{Addr: freeAddr(), metrics: freeAddr(), Check: freeAddr(), ExtAuthz: freeAddr()}
	settings = append([]string{
		"SESSIOND_ADDR=" + p.Addr, "SESSIOND_METRICS_ADDR=" + p.metrics, "SESSIOND_CHECK_ADDR=" + p.Check, "SESSIOND_EXT_AUTHZ_ADDR=" + p.ExtAuthz,
		"SESSIOND_DATABASE_URL=" + b.databaseURL, "SESSIOND_REDIS_URL=" + redisURL, "SESSIOND_SIGNING_KEYS_FILE=" + s.keysFile(),
		"SESSIOND_ISSUER=" + issuerURL, "SESSIOND_PUBLIC_URL=" + issuerURL, "SESSIOND_LIMITS=off", "SESSIOND_MAX_SESSIONS=0",
	}, settings...) // the last of two values counts
	return s.start(ctx, p, settings, append(slices.Clone(wrap), b.program, "serve")...)
}

// Baseline starts another process of sessionbench as the baseline server "empty" or "plain".
func (s *Stage) Baseline(ctx context.Context, name, redisURL string) *Process {
	p := &Process{Addr: freeAddr()}
	setting := EnvBaseline + "=" + strings.Join([]string{name, p.Addr, redisURL, s.keysFile()}, "\n")
	return s.start(ctx, p, []string{setting}, must.Get(os.Executable()))
}

// Get returns the body of a response with status 200, and "" for any other result.
func Get(addr, path string) string {
	status, body, err := fasthttp.GetTimeout(nil, "http://"+addr+path, 15*time.Second)
	if err != nil || status != fasthttp.StatusOK {
		return ""
	}
	return string(body)
}

// Goroutines reads the number of sessiond's goroutines from its /metrics.
func (p *Process) Goroutines() float64 {
	_, value, _ := strings.Cut(Get(p.metrics, "/metrics"), "\ngo_goroutines ")
	value, _, _ = strings.Cut(value, "\n")
	return must.Get(strconv.ParseFloat(value, 64))
}

func freeAddr() string {
	listener := must.Get(net.Listen("tcp", "127.0.0.1:0")) //nolint:noctx // listening on loopback does not block
	defer listener.Close()                                 //nolint:errcheck // an error does not matter, because no client has connected
	return listener.Addr().String()
}

// EnvBaseline is the environment variable that makes sessionbench run as a baseline server. Its
// lines are the server's name, address, Redis URL and key file. They are not arguments, because
// other users of the machine can read arguments, and the URL may contain a password.
const EnvBaseline = "SESSIONBENCH_BASELINE"

// ServeBaseline runs the baseline server that EnvBaseline describes until ctx ends.
func ServeBaseline(ctx context.Context) (err error) {
	defer must.Catch(&err)
	lines, check := strings.Split(os.Getenv(EnvBaseline), "\n"), func(http.ResponseWriter, *http.Request) {}
	if lines[0] == "plain" {
		check = plainHandler(must.Get(os.ReadFile(lines[3])), redis.NewClient(must.Get(redis.ParseURL(lines[2]))))
	}
	r := chi.NewRouter()
	r.Get(load.CheckPath, check)
	r.Get("/readyz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ready") })
	listener := must.Get(new(net.ListenConfig).Listen(ctx, "tcp", lines[1]))
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	if err = http.Serve(listener, r); errors.Is(err, net.ErrClosed) { //nolint:gosec // G114: timeouts would slow down every request
		err = nil
	}
	return err
}

func plainSession(id string) string   { return keyPrefix + "session:" + id }
func plainBlacklist(id string) string { return keyPrefix + "blacklist:" + id }

// plainHandler is the plain design: it verifies the signature, then asks Redis whether the session
// exists and whether the token is on the blacklist. It uses sessiond's libraries with their defaults.
func plainHandler(keys []byte, client *redis.Client) http.HandlerFunc {
	var set jose.JSONWebKeySet
	must.Do(json.Unmarshal(keys, &set))
	public := map[[2]string]any{} // verification keys by algorithm and key id
	for _, k := range set.Keys {
		public[[2]string{k.Algorithm, k.KeyID}] = k.Public().Key
		if k.Algorithm == "HS256" {
			public[[2]string{k.Algorithm, k.KeyID}] = k.Key // HMAC signs and verifies with the same secret
		}
	}
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"EdDSA", "ES256", "HS256"}), jwt.WithIssuer(issuerURL), jwt.WithAudience(issuerURL), jwt.WithExpirationRequired())
	keyOf := func(t *jwt.Token) (any, error) {
		id, _ := t.Header["kid"].(string)
		if key := public[[2]string{t.Method.Alg(), id}]; key != nil {
			return key, nil
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
