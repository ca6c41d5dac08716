package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sessiond/sessiond/api"
	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/audit"
	"github.com/sessiond/sessiond/identity/clients"
	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
)

// Parts holds everything that Assemble connects. The verbs dev and serve and the tests fill it.
type Parts struct {
	Settings Settings
	DB       *sqlstore.DB
	Store    issuer.Store
	Limits   limit.Limiter // rate limits that all replicas share
	Keys     *session.Keyring
	Clients  map[string]clients.Client // of the clients file
	Hasher   *hashing.Hasher
	Mailer   mail.Mailer         // nil: no mail is sent
	Breaches identity.BreachList // nil: new passwords are not checked
	AuditLog io.Writer           // nil: audit events are not copied
	Mailbox  func() any          // returns the mails for GET /dev/mail; nil except in `sessiond dev`
	Now      func() time.Time    // time of the clock that all replicas share
	Log      *slog.Logger
	Tracing  *Tracing // nil: requests are not traced

	DeviceSecret []byte // secret that signs device tokens; all replicas use the same one

	Background []func(context.Context) // functions that run until the service stops
}

// Service is the HTTP service that [Assemble] returns.
type Service struct {
	Handler    http.Handler
	Admin      http.Handler // the routes for operators, for a listener of their own
	api        *api.API     // makes the servers for gateways
	metrics    http.Handler
	pprof      bool // the metrics listener serves profiles, too
	registry   *prometheus.Registry
	background []func(context.Context)
	stopping   atomic.Bool // true while the service shuts down; /readyz then returns 503
}

const (
	// ledgerReads is the fraction of the database connections that token checks may use. The others
	// stay free for logins, even if Redis is empty and every check reads the database.
	ledgerReads = 0.5
	// cachedSignatures is the number of tokens whose verified signature is cached, about 50 MB.
	cachedSignatures = 1 << 17
	// localLimits is the number of rate limit buckets that a replica keeps while Redis is down (30 MB).
	localLimits = 100_000
	// shutdownTimeout is how long running requests may take after the service was told to stop.
	shutdownTimeout = 15 * time.Second
)

var errStopping = errors.New("shutting down")

// Assemble connects the parts to a service. [Service.Serve] runs it.
func Assemble(p Parts) *Service {
	s := &p.Settings
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	program := thisBuild()
	program.register(registry)
	protection := newProtection(registry, p.Log)
	p.Hasher.Queue = s.newQueue(protection, p.Hasher.Engine != nil)
	protection.watch(p.Hasher.Queue)
	p.Hasher.Span = p.Tracing.steps()
	observer, measures := newSessionMetrics(registry), newMeasures(registry, p.DB, p.Store, p.Now)
	users := &identity.Service{
		Store: p.DB.Users(), Hasher: p.Hasher, Now: p.Now, PasswordMinLength: s.PasswordMinLength,
		MailEnabled: p.Mailer != nil, NewID: issuer.NewID, NewTimedID: issuer.NewTimedID, Log: p.Log,
		Observer: protection, DeviceSecret: p.DeviceSecret, Breaches: p.Breaches, ResetTTL: s.ResetTTL, BreachesRequired: s.BreachedPolicy == breachedRefuse,
		RegistrationClosed: s.Registration == registrationClosed, Domains: s.RegistrationDomains, ReservedNames: s.ReservedNames,
	}
	if production || s.Limits == limitsOn {
		users.Limits = limit.NewFailover(p.Limits, limit.NewLocal(localLimits))
		users.Limits.Rules = s.Rules
	} else {
		p.Log.Warn(limitsAreOff)
	}
	ledger := p.DB.Sessions()
	lastSeen := issuer.NewLastSeen(ledger, p.Log)
	audiences := splitList(s.Audience)
	sessions := &issuer.Manager{
		Verifier: session.Verifier{
			Keys: p.Keys, Issuer: s.Issuer, Audience: audiences[0], Store: p.Store, Now: p.Now,
			Fallback: &issuer.LedgerFallback{
				Store: p.Store, Finder: ledger, Observer: observer, Limit: session.NewLimit(max(1, int(float64(s.DatabaseMaxConns)*ledgerReads))),
			},
			Signatures: session.NewSignatureCache(cachedSignatures), Seen: lastSeen.Add, Counts: new(session.Counts),
		},
		Store: p.Store, Ledger: ledger, Log: p.Log, Observer: observer, OtherAudiences: audiences[1:],
		AccessTTL: s.AccessTokenTTL, IdleTTL: s.SessionIdleTTL, MaxTTL: s.SessionMaxTTL, RefreshGrace: s.RefreshGrace,
		MaxSessions: s.MaxSessions, EndOldest: s.MaxSessionsPolicy == maxSessionsEndOldest,
	}
	watchStores(registry, sessions)
	// Learn which Redis server counts before the first check. If this fails, the ledger answers checks.
	sessions.PollEpochs(context.Background())
	registered := &clients.Registry{Store: p.DB.Clients(), File: p.Clients, Now: p.Now, Log: p.Log}
	sealer := &audit.Sealer{Store: p.DB.Events(), Log: p.Log, Copy: p.AuditLog}
	service := &Service{metrics: promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), registry: registry, pprof: s.Pprof}
	handlers := &api.API{
		Version:  program.version,
		Sessions: sessions, Users: users, PublicURL: s.PublicURL, Now: p.Now, Log: p.Log,
		Ready: func(ctx context.Context) map[string]error {
			database := errStopping
			if !service.stopping.Load() {
				database = p.DB.Ping(ctx)
			}
			return map[string]error{"database": database, "redis": p.Store.Ping(ctx), "redis_trusted": sessions.Trusted()}
		},
		ClassicRoutes: api.ClassicRoutes(s.ClassicRoutes), HideAccounts: s.HideAccounts, ReauthMaxAge: s.ReauthMaxAge, TrustedProxies: s.TrustedProxies, ForwardedHeader: forwardedHeaders[s.Forwarded],
		CORSOrigins: s.CORSOrigins, CORSHeaders: s.CORSHeaders, Clients: registered, Audit: p.DB.Events(), AdminElsewhere: s.AdminAddr != "",
		Mailbox: p.Mailbox, Metrics: api.NewMetrics(registry),
		Route: p.Tracing.route(), Span: p.Tracing.requests(),
		Stats: func(ctx context.Context) (any, error) { return p.DB.Numbers(ctx, p.Now()) },
	}
	service.api = handlers
	service.Handler = p.Tracing.handler(handlers.Handler(), s.PublicURL)
	service.Admin = p.Tracing.handler(handlers.AdminHandler(), s.PublicURL)
	// If no mail server is set, the postman deletes the mails in the outbox, which would pile up.
	postman := &mail.Postman{
		Outbox: p.DB.Users(), Clerk: users, Mailer: p.Mailer, Now: p.Now,
		PublicURL: s.PublicURL, ResetURL: s.ResetURL, VerifyURL: s.VerifyURL, Log: p.Log, Span: p.Tracing.jobs(), Observer: protection.mailTried,
	}
	retention := &identity.Retention{Store: p.DB.Users(), History: s.HistoryRetention, Addresses: s.AddressRetention, Now: p.Now, Log: p.Log}
	service.background = append(p.Background, sessions.Run, sessions.RunBulk, registered.Run, sealer.Run, lastSeen.Run, postman.Run, retention.Run, protection.refusals.Run, measures.Run)
	return service
}

// Listeners are where a service is reached. Only Public is required.
type Listeners struct{ Public, Admin, Check, ExtAuthz, Metrics net.Listener }

// server is one of the servers of package api.
type server interface {
	Serve(net.Listener) error
	Drain()
	Shutdown(context.Context) error
}

// Serve serves on the listeners until ctx is done. /readyz then returns 503 and each connection closes
// after its next response, but Serve continues until delay is over. It returns when all requests and
// goroutines have ended.
func (s *Service) Serve(ctx context.Context, l Listeners, delay time.Duration, log *slog.Logger) error {
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	for _, f := range s.background {
		running.Go(func() { f(work) })
	}
	defer running.Wait()
	defer stopWork()

	var servers []server
	failed := make(chan error, 5) // one for each listener
	serve := func(l net.Listener, newServer func() server) {
		if l == nil {
			return
		}
		server := newServer()
		servers = append(servers, server)
		running.Go(func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	serve(l.Public, func() server { return api.NewServer(s.Handler, log) })
	serve(l.Admin, func() server { return api.NewServer(s.Admin, log) })
	serve(l.Check, func() server { return s.api.NewCheckServer() })
	serve(l.ExtAuthz, func() server { return s.api.NewExtAuthzServer() })
	serve(l.Metrics, func() server { return api.NewServer(s.forOperators(), log) })

	var err error
	select {
	case <-ctx.Done():
		s.stopping.Store(true)
		for _, server := range servers {
			server.Drain()
		}
		log.Info("shutting down", "delay", delay)
		time.Sleep(delay) // in this time, load balancers see that /readyz returns 503 and stop sending requests
	case err = <-failed:
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	for _, server := range servers {
		err = errors.Join(err, server.Shutdown(ending))
	}
	return err
}

// forOperators serves the metrics and, if they are on, the profiles.
func (s *Service) forOperators() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metrics)
	if s.pprof {
		addPprof(mux)
	}
	return mux
}
