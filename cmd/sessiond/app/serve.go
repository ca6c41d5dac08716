package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/spf13/cobra"

	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/sqlstore"
)

func serveCommand(env lookupEnv) *cobra.Command {
	var s Settings
	c := &cobra.Command{
		Use:     serveVerb,
		GroupID: runGroup,
		Short:   "Run in production, with PostgreSQL and Redis",
		Long: `Run a replica in production, with PostgreSQL and Redis. Identical replicas share both.

Every setting is a flag or an environment variable: --redis-url or SESSIOND_REDIS_URL. A flag takes
precedence. A rate limit is BURST/PERIOD: so many at once, and one more each period.`,
		Example: `  sessiond serve --database-url-file database-url --redis-url-file redis-url --signing-keys-file keys.json \
    --issuer https://id.example.com --public-url https://id.example.com`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return s.serve(c.Context(), c.OutOrStdout()) },
	}
	s.addFlags(c, env)
	return c
}

// serve runs the service for production. Identical replicas share one Postgres and one Redis.
func (s *Settings) serve(ctx context.Context, stdout io.Writer) (err error) {
	if err := s.checkServe(ctx); err != nil {
		return err
	}
	var c closers
	defer func() { err = errors.Join(err, c.close()) }()
	mailer, err := s.openMailer()
	if err != nil {
		return err
	}
	p, err := s.openFiles(ctx, false, stdout, &c)
	if err != nil {
		return err
	}
	for _, w := range s.warnings() {
		p.Log.Warn(w.text)
	}
	if ignored := sqlstore.IgnoredParameters(s.DatabaseURL); ignored != nil {
		p.Log.Warn("SESSIOND_DATABASE_URL has parameters that are ignored", "parameters", ignored)
	}
	var l Listeners
	if l.Public, err = listen(ctx, "addr", s.Addr, &c); err != nil {
		return err
	}
	err = awaitDatabase(ctx, l.Public, p.Log, func() error { return s.openStores(ctx, &p, requireMigrated, &c) })
	if err != nil {
		return err
	}
	if p.DB == nil { // the program was told to stop while it waited
		return nil
	}
	for _, extra := range []struct {
		flag, addr string
		listener   *net.Listener
	}{
		{"admin-addr", s.AdminAddr, &l.Admin},
		{"check-addr", s.CheckAddr, &l.Check},
		{"ext-authz-addr", s.ExtAuthzAddr, &l.ExtAuthz},
		{metricsAddr, s.MetricsAddr, &l.Metrics},
	} {
		if extra.addr == "" {
			continue
		}
		if *extra.listener, err = listen(ctx, extra.flag, extra.addr, &c); err != nil {
			return err
		}
	}
	p.Mailer = mailer
	c.add(startWorker(p.Hasher, p.Log))
	service := Assemble(p)
	p.Log.Info("serving", "addr", l.Public.Addr().String(), "issuer", s.Issuer)
	return service.Serve(ctx, l, s.ShutdownDelay, p.Log)
}

// checkServe returns an error if the configuration is incomplete or unsafe.
func (s *Settings) checkServe(ctx context.Context) error {
	if err := s.require("database-url", s.DatabaseURL, "redis-url", s.RedisURL, "signing-keys-file", s.SigningKeysFile,
		"issuer", s.Issuer, "public-url", s.PublicURL); err != nil {
		return err
	}
	s.Audience = cmp.Or(s.Audience, s.Issuer)
	if s.SMTPURL != "" {
		if err := s.require("mail-from", s.MailFrom); err != nil {
			return err
		}
	}
	if s.DatabaseMaxConns < 2 {
		return errors.New("SESSIOND_DATABASE_MAX_CONNS: want at least 2")
	}
	if s.Pprof && s.MetricsAddr == "" {
		return errors.New("SESSIOND_PPROF: want SESSIOND_METRICS_ADDR, where the profiles are served")
	}
	return errors.Join(s.check(), s.checkWebURLs(), s.checkDatabaseURL(ctx), s.checkRedisURL(ctx))
}

// requireMigrated returns an error if the database lacks migrations. Replicas do not apply them,
// because the operator decides when the tables change.
func requireMigrated(ctx context.Context, db *sqlstore.DB) error {
	current, wanted, err := db.MigrationStatus(ctx)
	if err == nil && current < wanted {
		err = fmt.Errorf("the database is at migration %d; want %d: run sessiond migrate", current, wanted)
	}
	return err
}

// openMailer returns nil if no mail server is set.
func (s *Settings) openMailer() (mail.Mailer, error) {
	if s.SMTPURL == "" {
		return nil, nil
	}
	smtp, err := mail.NewSMTP(s.SMTPURL, s.MailFrom, s.AllowPlaintext)
	return smtp, settingError("smtp-url", err)
}
