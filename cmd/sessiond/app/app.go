package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sessiond/sessiond/api"
	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/breach"
	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
)

// Parts is what differs between dev, serve and a test.
type Parts struct {
	Settings Settings
	DB       *sqlstore.DB
	Store    issuer.Store
	Limits   limit.Limiter // that all replicas share
	Keys     *session.Keyring
	Clients  api.Clients
	Hasher   *hashing.Hasher
	Mailer   mail.Mailer         // nil: no mail
	Breaches identity.BreachList // nil: nobody is asked
	Mailbox  func() any          // nil but in dev
	Now      func() time.Time
	Log      *slog.Logger

	DeviceSecret []byte
}

// Service is the service, wired.
type Service struct {
	Handler    http.Handler
	metrics    http.Handler
	background []func(context.Context)
	stopping   atomic.Bool // /readyz says no
}

// ledgerReads is how many checks may ask the database at once, as a share of its connections, so
// that a wiped Redis leaves some for logins.
const ledgerReads = 0.5

// cachedSignatures is how many tokens are kept verified: about 50 MB when all are taken.
const cachedSignatures = 1 << 17

// localLimits is of how many keys the limits are kept here while Redis is down:
// about 30 MB when all are taken.
const localLimits = 100_000

// Assemble wires the service.
func Assemble(p Parts) *Service {
	s := &p.Settings
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	protection := newProtection(registry)
	p.Hasher.Queue = s.newQueue(protection, p.Hasher.Engine != nil)
	protection.watch(p.Hasher.Queue)
	users := &identity.Service{
		Store: p.DB.Users(), Hasher: p.Hasher, Now: p.Now, PasswordMinLength: s.PasswordMinLength,
		MailEnabled: p.Mailer != nil, NewID: issuer.NewID, NewTimedID: issuer.NewTimedID, Log: p.Log,
		Observer: protection, DeviceSecret: p.DeviceSecret, Breaches: p.Breaches, ResetTTL: s.ResetTTL, BreachesRequired: s.WhenUnchecked == refuseUnchecked,
	}
	if s.Limits == limitsOn {
		users.Limits = limit.NewFailover(p.Limits, limit.NewLocal(localLimits))
	} else {
		p.Log.Warn("SESSIOND_LIMITS is off: passwords can be guessed without end; this is for tests and benchmarks only")
	}
	ledger := p.DB.Sessions()
	lastSeen := issuer.NewLastSeen(ledger, p.Log)
	sessions := &issuer.Manager{
		Verifier: session.Verifier{
			Keys: p.Keys, Issuer: s.Issuer, Audience: s.Audience, Store: p.Store, Now: p.Now,
			Fallback: &issuer.LedgerFallback{
				Store: p.Store, Finder: ledger, Limit: make(session.Limit, max(1, int(float64(s.DatabaseMaxConns)*ledgerReads))),
			},
			Signatures: session.NewSignatureCache(cachedSignatures), Seen: lastSeen.Add,
		},
		Store: p.Store, Ledger: ledger, Log: p.Log,
		AccessTTL: s.AccessTokenTTL, IdleTTL: s.SessionIdleTTL, MaxTTL: s.SessionMaxTTL, RefreshGrace: s.RefreshGrace,
		MaxSessions: s.MaxSessions, EndOldest: s.WhenFull == endOldest,
	}
	a := &Service{metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{})}
	a.Handler = (&api.API{
		Sessions: sessions, Users: users, PublicURL: s.PublicURL, Now: p.Now, Log: p.Log,
		Ready: func(ctx context.Context) map[string]error {
			return map[string]error{"database": a.checkDatabase(ctx, p.DB), "redis": p.Store.Ping(ctx)}
		},
		HideAccounts: s.HideAccounts, ReauthMaxAge: s.ReauthMaxAge, TrustedProxies: s.TrustedProxies,
		CORSOrigins: s.CORSOrigins, Clients: p.Clients, Mailbox: p.Mailbox, Metrics: api.NewMetrics(registry),
	}).Handler()
	a.background = append(a.background, sessions.Run, lastSeen.Run)
	// Without a mailer it drops what would pile up.
	postman := &mail.Postman{
		Outbox: p.DB.Users(), Tokens: users, Mailer: p.Mailer, Now: p.Now,
		PublicURL: s.PublicURL, ResetURL: s.ResetURL, VerifyURL: s.VerifyURL, Log: p.Log,
	}
	retention := &identity.Retention{Store: p.DB.Users(), Now: p.Now, Log: p.Log}
	a.background = append(a.background, postman.Run, retention.Run)
	return a
}

var errStopping = errors.New("shutting down")

func (a *Service) checkDatabase(ctx context.Context, db *sqlstore.DB) error {
	if a.stopping.Load() {
		return errStopping
	}
	return db.Ping(ctx)
}

// shutdownTimeout bounds how long requests under way may take to end.
const shutdownTimeout = 15 * time.Second

// Serve serves on the listeners until ctx ends, and returns when nothing of the
// service runs any more. metrics may be nil.
func (a *Service) Serve(ctx context.Context, public, metrics net.Listener, delay time.Duration, log *slog.Logger) error {
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	for _, f := range a.background {
		running.Go(func() { f(work) })
	}
	defer running.Wait()
	defer stopWork()

	failed := make(chan error, 2)
	servers := []*http.Server{a.server(a.Handler, log)}
	listeners := []net.Listener{public}
	if metrics != nil {
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", a.metrics)
		servers, listeners = append(servers, a.server(mux, log)), append(listeners, metrics)
	}
	for i, s := range servers {
		running.Go(func() {
			if err := s.Serve(listeners[i]); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}

	var err error
	select {
	case <-ctx.Done():
		a.stopping.Store(true)
		log.Info("shutting down", "delay", delay)
		wait(delay)
	case err = <-failed:
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	for _, s := range servers {
		err = errors.Join(err, s.Shutdown(ending))
	}
	return err
}

// wait gives the load balancers time to see that /readyz says no.
func wait(delay time.Duration) {
	if delay > 0 {
		time.Sleep(delay)
	}
}

func (a *Service) server(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second, // less than shutdownTimeout: a body may never come
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// openHasher makes the password hasher of the settings. dev may go below what
// is safe, to be quick to try.
func (s *Settings) openHasher(insecure bool) (*hashing.Hasher, error) {
	var peppers []hashing.Pepper
	if s.PasswordPepperFile != "" {
		data, err := os.ReadFile(s.PasswordPepperFile) //nolint:gosec // G703: the operator names the file
		if err != nil {
			return nil, fmt.Errorf("%sPASSWORD_PEPPER_FILE: %w", envPrefix, err)
		}
		if peppers, err = hashing.ParsePeppers(data); err != nil {
			return nil, fmt.Errorf("%sPASSWORD_PEPPER_FILE: %w", envPrefix, err)
		}
	}
	newHasher := hashing.NewHasher
	if insecure {
		newHasher = hashing.NewInsecureHasher
	}
	hasher, err := newHasher(s.BcryptCost, peppers)
	if err != nil {
		return nil, fmt.Errorf("%sBCRYPT_COST: %w", envPrefix, err)
	}
	return hasher, nil
}

// openBreaches returns nil when no service is set. What it returns for closing
// never is.
func (s *Settings) openBreaches(ctx context.Context) (identity.BreachList, func() error, error) {
	if s.BreachedURL == "" {
		return nil, func() error { return nil }, nil
	}
	if err := s.checkBreachedURL(ctx); err != nil {
		return nil, nil, err
	}
	list := breach.NewRange(s.BreachedURL)
	return list, list.Close, nil
}

// openClients reads who may introspect; without a file nobody may.
func (s *Settings) openClients() (api.Clients, error) {
	if s.ClientsFile == "" {
		return nil, nil
	}
	clients, err := readClients(s.ClientsFile)
	if err != nil {
		return nil, fmt.Errorf("%sCLIENTS_FILE: %w", envPrefix, err)
	}
	return clients, nil
}

// logger writes JSON lines, or text where a person reads along.
func (s *Settings) logger(w io.Writer, text bool) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		return nil, fmt.Errorf("%sLOG_LEVEL: %q is none of debug, info, warn, error", envPrefix, s.LogLevel)
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			a.Value = slog.TimeValue(a.Value.Time().UTC())
		}
		return a
	}}
	if text {
		return slog.New(slog.NewTextHandler(w, options)), nil
	}
	return slog.New(slog.NewJSONHandler(w, options)), nil
}
