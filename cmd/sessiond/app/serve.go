package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/sqlstore"
)

// runServe is production: any number of identical replicas on one Postgres and
// one Redis.
func runServe(ctx context.Context, args []string, env lookupEnv, stdout, stderr io.Writer) (err error) {
	var s Settings
	f := newFlags("serve", stderr)
	s.common(f)
	s.production(f)
	if err := f.parse(args, env); err != nil {
		return err
	}
	if err := s.checkServe(ctx); err != nil {
		return err
	}
	log, err := s.logger(stdout, false)
	if err != nil {
		return err
	}
	clients, err := s.openClients()
	if err != nil {
		return err
	}
	breaches, closeBreaches, err := s.openBreaches(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeBreaches()) }()
	hasher, err := s.openHasher(false)
	if err != nil {
		return err
	}
	keys, err := watchKeys(ctx, s.SigningKeysFile, log)
	if err != nil {
		return fmt.Errorf("%sSIGNING_KEYS_FILE: %w", envPrefix, err)
	}
	post, err := s.openMailer()
	if err != nil {
		return err
	}
	if post == nil {
		log.Warn("SESSIOND_SMTP_URL is not set: " + withoutMail)
	}

	db, err := sqlstore.Open(ctx, s.DatabaseURL, sqlstore.Options{MaxConns: s.DatabaseMaxConns})
	if err != nil {
		return fmt.Errorf("%sDATABASE_URL: %w", envPrefix, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	current, wanted, err := db.MigrationStatus(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%sDATABASE_URL: %w", envPrefix, err)
	case current < wanted:
		return fmt.Errorf("%sDATABASE_URL: the database is at migration %d and this program needs %d: run sessiond migrate", envPrefix, current, wanted)
	}
	clock, err := db.Clock(ctx)
	if err != nil {
		return fmt.Errorf("%sDATABASE_URL: %w", envPrefix, err)
	}
	deviceSecret, err := db.DeviceSecret(ctx)
	if err != nil {
		return fmt.Errorf("%sDATABASE_URL: %w", envPrefix, err)
	}
	store, err := redisstore.Open(s.RedisURL, redisstore.Options{Prefix: s.RedisPrefix})
	if err != nil {
		return fmt.Errorf("%sREDIS_URL: %w", envPrefix, err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := store.Ping(ctx); err != nil {
		// Not a reason to refuse: with Redis down people can still sign in.
		log.Warn("Redis does not answer yet", "error", err)
	}

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.Addr)
	if err != nil {
		return fmt.Errorf("%sADDR: %w", envPrefix, err)
	}
	defer listener.Close() //nolint:errcheck // closed by the server before; this is for the errors on the way
	var metrics net.Listener
	if s.MetricsAddr != "" {
		if metrics, err = new(net.ListenConfig).Listen(ctx, "tcp", s.MetricsAddr); err != nil {
			return fmt.Errorf("%sMETRICS_ADDR: %w", envPrefix, err)
		}
		defer metrics.Close() //nolint:errcheck // as above
	}

	stopHashing := startWorker(hasher, log)
	defer func() { err = errors.Join(err, stopHashing()) }()
	a := Assemble(Parts{
		Settings: s, DB: db, Store: store, Limits: store.Limiter(), Keys: keys, Clients: clients, Hasher: hasher, Mailer: post, Breaches: breaches,
		Now: clock.Now, Log: log, DeviceSecret: deviceSecret,
	})
	a.background = append(a.background, clock.Run)
	log.Info("serving", "addr", listener.Addr().String(), "issuer", s.Issuer)
	return a.Serve(ctx, listener, metrics, s.ShutdownDelay, log)
}

// checkServe refuses a configuration that is incomplete or unsafe.
func (s *Settings) checkServe(ctx context.Context) error {
	if err := s.require("database-url", s.DatabaseURL, "redis-url", s.RedisURL, "signing-keys-file", s.SigningKeysFile,
		"issuer", s.Issuer, "public-url", s.PublicURL); err != nil {
		return err
	}
	s.Audience = orElse(s.Audience, s.Issuer)
	if s.SMTPURL != "" {
		if err := s.require("mail-from", s.MailFrom); err != nil {
			return err
		}
	}
	if s.DatabaseMaxConns < 2 {
		return fmt.Errorf("%sDATABASE_MAX_CONNS: is less than 2", envPrefix)
	}
	return errors.Join(s.check(), s.checkDatabaseURL(ctx), s.checkRedisURL(ctx))
}

// openMailer returns nil when no mail server is set.
func (s *Settings) openMailer() (mail.Mailer, error) {
	if s.SMTPURL == "" {
		return nil, nil
	}
	smtp, err := mail.NewSMTP(s.SMTPURL, s.MailFrom, s.AllowPlaintext)
	if err != nil {
		return nil, fmt.Errorf("%sSMTP_URL: %w", envPrefix, err)
	}
	return smtp, nil
}
