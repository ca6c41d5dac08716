package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/breach"
	"github.com/sessiond/sessiond/identity/clients"
	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/sqlstore"
)

// closers holds functions that close the resources that a verb has opened.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

// close calls the functions, the last one first.
func (c *closers) close() error {
	var problems []error
	for _, f := range slices.Backward(*c) {
		problems = append(problems, f())
	}
	return errors.Join(problems...)
}

// openFiles opens all resources that the verbs dev and serve need, except those of openStores. If dev
// is set, the log is text instead of JSON, and bcrypt costs below 10 are allowed.
func (s *Settings) openFiles(ctx context.Context, dev bool, logTo io.Writer, c *closers) (p Parts, err error) {
	if p.Log, err = s.logger(logTo, dev); err != nil {
		return p, err
	}
	b := thisBuild()
	p.Log.Info("starting", "version", b.version, "revision", b.revision, "go_version", b.goVersion)
	if p.Clients, err = s.openClients(); err != nil {
		return p, err
	}
	if p.AuditLog, err = s.openAuditLog(logTo, c); err != nil {
		return p, err
	}
	if p.Tracing, err = openTracing(ctx, p.Log, c); err != nil {
		return p, err
	}
	p.Log = p.Tracing.logger(p.Log)
	if p.Breaches, err = s.openBreaches(ctx, p.Tracing, c); err != nil {
		return p, err
	}
	if p.Hasher, err = s.openHasher(dev); err != nil {
		return p, err
	}
	if p.Keys, err = watchKeys(ctx, s.SigningKeysFile, p.Log); err != nil {
		return p, settingError("signing-keys-file", err)
	}
	p.Settings = *s
	return p, nil
}

// connect opens the database. It returns an error if the database does not answer, or if there is a
// pooler that the URL does not name. tracing may be nil.
func (s *Settings) connect(ctx context.Context, tracing *Tracing) (*sqlstore.DB, error) {
	db, err := sqlstore.Open(ctx, s.DatabaseURL, sqlstore.Options{MaxConns: s.DatabaseMaxConns, OpenPool: tracing.openPool(s.DatabaseURL)})
	if err != nil {
		return nil, err
	}
	if err := db.CheckPooler(ctx); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// openStores opens the database and Redis. The function prepare migrates the database, or returns an
// error if a migration is missing. All replicas use the clock of the database and the secret for
// device tokens that the database stores.
func (s *Settings) openStores(ctx context.Context, p *Parts, prepare func(context.Context, *sqlstore.DB) error, c *closers) error {
	database := "database-url"
	if s.Data != "" {
		database = "data" // in dev, errors name the flag --data, the directory of the database
	}
	db, err := s.connect(ctx, p.Tracing)
	if err != nil {
		return settingError(database, err)
	}
	var clock *sqlstore.Clock
	if err = prepare(ctx, db); err == nil {
		clock, err = db.Clock(ctx)
	}
	if err == nil {
		p.DeviceSecret, err = db.DeviceSecret(ctx)
	}
	if err != nil {
		return settingError(database, errors.Join(err, db.Close()))
	}
	c.add(db.Close)
	store, err := redisstore.Open(s.RedisURL, p.Tracing.redis(redisstore.Options{Prefix: s.RedisPrefix}))
	if err != nil {
		return settingError("redis-url", err)
	}
	c.add(store.Close)
	if err := store.Ping(ctx); err != nil {
		// Start without Redis, because users can sign in while Redis is down.
		p.Log.Warn("Redis does not answer yet", "error", settingError("redis-url", err))
	}
	p.DB, p.Store, p.Limits = db, store, store.Limiter()
	p.Now, p.Background = clock.Now, append(p.Background, clock.Run)
	return nil
}

// listen opens a listener at addr. Its errors name the flag that set addr.
func listen(ctx context.Context, flagName, addr string, c *closers) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, settingError(flagName, err)
	}
	c.add(func() error {
		_ = l.Close() // an error does not matter, because Service.Serve has closed the listener if it ran
		return nil
	})
	return l, nil
}

// openHasher returns the password hasher. insecure allows bcrypt costs below 10, for dev.
func (s *Settings) openHasher(insecure bool) (*hashing.Hasher, error) {
	var peppers []hashing.Pepper
	if s.PasswordPepperFile != "" {
		data, err := os.ReadFile(s.PasswordPepperFile)
		if err == nil {
			peppers, err = hashing.ParsePeppers(data)
		}
		if err != nil {
			return nil, settingError("password-pepper-file", err)
		}
	}
	newHasher := hashing.NewHasher
	if insecure && !production {
		newHasher = hashing.NewInsecureHasher
	}
	hasher, err := newHasher(s.BcryptCost, peppers)
	return hasher, settingError("bcrypt-cost", err)
}

// openBreaches returns the breached-password service of --breached-url, or nil if there is none.
func (s *Settings) openBreaches(ctx context.Context, tracing *Tracing, c *closers) (identity.BreachList, error) {
	if s.BreachedURL == "" {
		return nil, nil
	}
	if err := s.checkBreachedURL(ctx); err != nil {
		return nil, err
	}
	list := breach.NewRange(s.BreachedURL)
	if tracing != nil {
		list.Instrument(tracing.transport)
	}
	c.add(list.Close)
	return list, nil
}

// openClients reads the clients of --clients-file. Other clients are in the database.
func (s *Settings) openClients() (map[string]clients.Client, error) {
	if s.ClientsFile == "" {
		return nil, nil
	}
	file, err := readClients(s.ClientsFile)
	return file, settingError("clients-file", err)
}

// openAuditLog opens the file of --audit-log for appending, or returns nil if there is none.
func (s *Settings) openAuditLog(stdout io.Writer, c *closers) (io.Writer, error) {
	switch s.AuditLog {
	case "":
		return nil, nil
	case "-":
		return stdout, nil
	}
	file, err := os.OpenFile(s.AuditLog, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, settingError("audit-log", err)
	}
	c.add(file.Close)
	return file, nil
}

// logger returns a logger that writes JSON lines, or readable text if text is set.
func (s *Settings) logger(w io.Writer, text bool) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		return nil, fmt.Errorf("SESSIOND_LOG_LEVEL: %q: want debug, info, warn or error", s.LogLevel)
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
