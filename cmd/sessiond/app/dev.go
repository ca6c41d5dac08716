//go:build !production

package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/redisstore/embedded"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/sqlstore"
)

// production reports that this program is built with the tag production. Then it has neither dev nor what
// only tests and benchmarks need.
const production = false

// withData are the verbs that take the directory of dev.
var withData = []string{devVerb, adminVerb}

// addDev adds the verb dev.
func addDev(program *cobra.Command, env lookupEnv) {
	program.Example = "  sessiond dev\n" + program.Example
	program.AddCommand(devCommand(env))
}

func devCommand(env lookupEnv) *cobra.Command {
	var s Settings
	c := &cobra.Command{
		Use:     devVerb,
		GroupID: runGroup,
		Short:   "Try it without installing anything: SQLite and an in-process Redis",
		Long: `Run the service with an SQLite file and a Redis server inside this process, on loopback only. It is not
for production. Users and sessions survive a restart. Mail is not sent, but shown at /dev/mail.`,
		Example: "  sessiond dev\n  sessiond dev --addr 127.0.0.1:8081 --data /tmp/sessiond --classic-routes off",
		Args:    noArguments,
		RunE:    func(c *cobra.Command, _ []string) error { return s.dev(c.Context(), c.OutOrStdout(), c.ErrOrStderr()) },
	}
	s.addFlags(c, env)
	return c
}

// dev runs the service with an SQLite file and a Redis server inside this process. Users and
// sessions survive a restart, because sessiond reads them from the file into the empty Redis.
func (s *Settings) dev(ctx context.Context, stdout, stderr io.Writer) (err error) {
	// The issuer does not contain the port, because a restart on another port would sign users out.
	s.Issuer = cmp.Or(s.Issuer, "http://localhost/sessiond-dev")
	s.Audience = cmp.Or(s.Audience, s.Issuer)
	if err := errors.Join(checkLoopback(s.Addr), s.check()); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Data, 0o700); err != nil {
		return settingError("data", err)
	}
	s.SigningKeysFile = filepath.Join(s.Data, "keys.json")
	if err := writeKey(s.SigningKeysFile, session.AlgEdDSA); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	box, err := mail.NewDevMailbox(filepath.Join(s.Data, "mail.jsonl"))
	if err != nil {
		return err
	}
	redis, err := embedded.Start()
	if err != nil {
		return err
	}
	defer redis.Close()
	s.DatabaseURL, s.DatabaseMaxConns = devDatabase(s.Data), devConns
	s.RedisURL = redis.URL()

	var c closers
	defer func() { err = errors.Join(err, c.close()) }()
	migrate := func(ctx context.Context, db *sqlstore.DB) error {
		// The new Redis is empty and nobody else reads it, so revocations need not wait for it.
		return cmp.Or(db.Migrate(ctx), db.Sessions().ClearEpochs(ctx))
	}
	p, err := s.openFiles(ctx, true, stderr, &c)
	if err != nil {
		return err
	}
	if err := s.openStores(ctx, &p, migrate, &c); err != nil {
		return err
	}
	listener, err := listen(ctx, "addr", s.Addr, &c)
	if err != nil {
		return err
	}
	p.Settings.PublicURL = cmp.Or(s.PublicURL, "http://"+listener.Addr().String())
	p.Mailer, p.Mailbox = box, func() any { return box.List() }
	service := Assemble(p)
	debug.FreeOSMemory() // give the operating system back the memory that only the migrations needed
	fmt.Fprintf(stdout, devBanner, p.Settings.PublicURL, s.Data)
	return service.Serve(ctx, Listeners{Public: listener}, 0, p.Log)
}

const devBanner = `
sessiond dev: not for production. It listens on loopback only and sends no mail.

  %[1]s          docs at /docs, mail at /dev/mail, data in %[2]s

  curl %[1]s/registerUser -H 'Content-Type: application/json' -d '{"username":"ada","email":"ada@example.com","password":"a long passphrase"}'
  curl %[1]s/loginUser -H 'Content-Type: application/json' -d '{"username":"ada","password":"a long passphrase"}'
  curl %[1]s/user/logins/show -H "Authorization: Bearer $TOKEN"

`
