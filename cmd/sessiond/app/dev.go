package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/redisstore/embedded"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/sqlstore"
)

// runDev is the embedded default: SQLite in a file and Redis in the process.
// Users and sign-ins survive a restart since the ledger is in the file; what
// the in-process Redis forgets is read from there again.
func runDev(ctx context.Context, args []string, env lookupEnv, stdout, stderr io.Writer) (err error) {
	var s Settings
	f := newFlags("dev", stderr)
	s.common(f)
	f.StringVar(&s.Addr, "addr", "127.0.0.1:8080", "where to listen; loopback only")
	f.StringVar(&s.DataDir, "data", ".sessiond", "directory of the database, the signing key and the mail")
	if err := f.parse(args, env); err != nil {
		return err
	}
	if err := checkLoopback(s.Addr); err != nil {
		return err
	}
	s.DatabaseMaxConns = 4
	log, err := s.logger(stderr, true)
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
	hasher, err := s.openHasher(true)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.DataDir, 0o700); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	s.SigningKeysFile = filepath.Join(s.DataDir, "keys.json")
	keys, err := devKeys(ctx, s.SigningKeysFile, log)
	if err != nil {
		return err
	}
	box, err := mail.NewDevMailbox(filepath.Join(s.DataDir, "mail.jsonl"))
	if err != nil {
		return err
	}

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.Addr)
	if err != nil {
		return fmt.Errorf("--addr: %w", err)
	}
	defer listener.Close() //nolint:errcheck // closed by the server before; this is for the errors on the way
	if s.PublicURL == "" {
		s.PublicURL = "http://" + listener.Addr().String()
	}
	// The issuer must not change with the port, or a restart would sign people out.
	s.Issuer = orElse(s.Issuer, "http://localhost/sessiond-dev")
	s.Audience = orElse(s.Audience, s.Issuer)
	if err := s.check(); err != nil {
		return err
	}

	db, err := sqlstore.Open(ctx, "sqlite:"+filepath.Join(s.DataDir, "sessiond.db"), sqlstore.Options{MaxConns: s.DatabaseMaxConns})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	clock, err := db.Clock(ctx)
	if err != nil {
		return err
	}
	deviceSecret, err := db.DeviceSecret(ctx)
	if err != nil {
		return err
	}
	server, err := embedded.Start()
	if err != nil {
		return err
	}
	defer server.Close()
	store, err := redisstore.Open(server.URL(), redisstore.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()

	a := Assemble(Parts{
		Settings: s, DB: db, Store: store, Limits: store.Limiter(), Keys: keys, Clients: clients, Hasher: hasher, Mailer: box, Breaches: breaches,
		Mailbox: func() any { return box.List() }, Now: clock.Now, Log: log, DeviceSecret: deviceSecret,
	})
	// Migrating took memory that serving does not need.
	debug.FreeOSMemory()
	fmt.Fprintf(stdout, devBanner, s.PublicURL, s.DataDir)
	return a.Serve(ctx, listener, nil, 0, log)
}

const devBanner = `
sessiond dev: not for production. It listens on loopback only and sends no mail.

  %[1]s          docs at /docs, mail at /dev/mail, data in %[2]s

  curl %[1]s/registerUser -H 'Content-Type: application/json' -d '{"username":"ada","email":"ada@example.com","password":"a long passphrase"}'
  curl %[1]s/loginUser -H 'Content-Type: application/json' -d '{"username":"ada","password":"a long passphrase"}'
  curl %[1]s/user/logins/show -H "Authorization: Bearer $TOKEN"

`

// devKeys reads the signing key of dev, or makes one on the first start.
func devKeys(ctx context.Context, path string, log *slog.Logger) (*session.Keyring, error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := writeKey(path, session.AlgEdDSA); err != nil {
			return nil, err
		}
	}
	return watchKeys(ctx, path, log)
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
