package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/audit"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
)

// operator runs one verb of an operator on the database and Redis themselves, without a replica.
type operator struct {
	s           Settings
	args        []string
	asJSON      bool
	reason      string
	out, errOut io.Writer
	now         func() time.Time // the database's clock
}

// operatorCommand completes a verb for operators: it adds the settings of the stores and the common flags. The
// function flags, which may be nil, adds the verb's own ones.
func operatorCommand(env lookupEnv, c *cobra.Command, flags func(*cobra.Command), run func(context.Context, *operator) error) *cobra.Command {
	o := &operator{}
	if flags != nil {
		flags(c)
	}
	c.Flags().BoolVar(&o.asJSON, "json", false, "print JSON; a list has one object a line")
	c.Flags().StringVar(&o.reason, "reason", "", "`TEXT` that the audit events say")
	if c.Args == nil {
		c.Args = noArguments
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := identity.CheckReason(o.reason); err != nil {
			return fmt.Errorf("--reason: %w", err)
		}
		o.args, o.out, o.errOut = args, c.OutOrStdout(), c.ErrOrStderr()
		act := audit.Act{Actor: audit.ByCommand, ActorID: systemUser(), Reason: o.reason}
		err := run(audit.With(c.Context(), act), o)
		if fields, ok := errors.AsType[identity.FieldErrors](err); ok {
			return errors.New(fields.Details())
		}
		return err
	}
	o.s.addFlagsOf(adminVerb, c, env)
	return c
}

// systemUser returns the name of the operating system's user, or the number where there is no name, as in a
// container.
func systemUser() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.Username
}

// oneUser accepts one argument, which names a user.
func oneUser(c *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one USER: a username, an email address or an id; see %s --help", c.CommandPath())
	}
	return nil
}

// withDatabase calls f with the database, which must have all migrations.
func (o *operator) withDatabase(ctx context.Context, f func(context.Context, *sqlstore.DB) error) (err error) {
	open := o.s.openDatabase
	if o.s.Data != "" {
		open = o.s.openDev
	}
	db, err := open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := requireMigrated(ctx, db); err != nil {
		return settingError("database-url", err)
	}
	clock, err := db.Clock(ctx)
	if err != nil {
		return settingError("database-url", err)
	}
	o.now = clock.Now
	return f(ctx, db)
}

// devConns is the number of connections to the database of dev.
const devConns = 4

// devDatabase returns the URL of the database in the directory of --data.
func devDatabase(data string) string { return "sqlite:" + filepath.Join(data, "sessiond.db") }

// openDev opens the database in the directory of --data.
func (s *Settings) openDev(ctx context.Context) (*sqlstore.DB, error) {
	if _, err := os.Stat(s.Data); err != nil { // otherwise SQLite would say less clearly what is missing
		return nil, settingError("data", err)
	}
	s.DatabaseURL, s.DatabaseMaxConns = devDatabase(s.Data), devConns
	db, err := s.connect(ctx, nil)
	return db, settingError("data", err)
}

// stores is what the verbs about users and sessions need.
type stores struct {
	*sqlstore.DB
	users    *identity.Service
	sessions *issuer.Manager
	noRedis  bool // replicas enforce revocations, because no Redis is set
}

// withStores calls f with the database and Redis.
func (o *operator) withStores(ctx context.Context, f func(context.Context, *stores) error) error {
	return o.withDatabase(ctx, func(ctx context.Context, db *sqlstore.DB) (err error) {
		o.s.LogLevel = "warn"
		log, err := o.s.logger(o.errOut, true)
		if err != nil {
			return err
		}
		hasher, err := o.s.openHasher(false)
		if err != nil {
			return err
		}
		s := &stores{DB: db, noRedis: o.s.RedisURL == ""}
		s.users = &identity.Service{
			Store: db.Users(), Hasher: hasher, Now: o.now, MailEnabled: true, NewID: issuer.NewID, NewTimedID: issuer.NewTimedID, Log: log,
		}
		s.sessions = &issuer.Manager{Verifier: session.Verifier{Now: o.now}, Ledger: db.Sessions(), Log: log}
		if s.noRedis {
			s.sessions.Store = replicasOnly{}
		} else {
			if err := o.s.checkRedisURL(ctx); err != nil {
				return err
			}
			store, err := redisstore.Open(o.s.RedisURL, redisstore.Options{Prefix: o.s.RedisPrefix})
			if err != nil {
				return settingError("redis-url", err)
			}
			defer func() { err = errors.Join(err, store.Close()) }()
			s.sessions.Store = store
		}
		return f(ctx, s)
	})
}

// replicasOnly is a store that leaves all revocations to the replicas.
type replicasOnly struct{ issuer.Store }

func (replicasOnly) Apply(context.Context, issuer.Revocation) ([]string, error) { return nil, nil }

// enforce enforces a revocation, or waits until a replica has.
func (s *stores) enforce(ctx context.Context, revocation int64) error {
	if revocation == 0 {
		return nil
	}
	return s.sessions.Enforce(ctx, revocation)
}

// user returns the user that an argument names.
func (s *stores) user(ctx context.Context, name string) (identity.User, error) {
	u, err := s.users.User(ctx, name)
	if errors.Is(err, identity.ErrNotFound) {
		if strings.Contains(name, "@") {
			u, err = s.DB.Users().ByEmail(ctx, name)
		} else {
			u, err = s.DB.Users().ByUsername(ctx, name)
		}
	}
	return u, err
}

// print prints a value as JSON, or calls text.
func (o *operator) print(v any, text func(io.Writer)) error {
	if o.asJSON {
		return json.NewEncoder(o.out).Encode(v)
	}
	text(o.out)
	return nil
}

// table is a list that is printed in columns, or as a line of JSON for each item.
type table struct {
	columns []string
	rows    [][]string
	items   []any
}

func (t *table) add(item any, row ...string) {
	t.items, t.rows = append(t.items, item), append(t.rows, row)
}

// printTable prints and removes the rows. It prints the columns only once.
func (o *operator) printTable(t *table) error {
	if o.asJSON {
		out := json.NewEncoder(o.out)
		for _, item := range t.items {
			if err := out.Encode(item); err != nil {
				return err
			}
		}
		t.items, t.rows = nil, nil
		return nil
	}
	w := tabwriter.NewWriter(o.out, 0, 0, 2, ' ', 0)
	if t.columns != nil {
		fmt.Fprintln(w, strings.Join(t.columns, "\t"))
	}
	for _, row := range t.rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	t.columns, t.items, t.rows = nil, nil, nil
	return w.Flush()
}

// quota is how many rows of a list are still to be printed.
type quota struct{ left int }

// newQuota returns the quota of --limit; 0 means no limit.
func newQuota(limit int) *quota {
	if limit <= 0 {
		limit = math.MaxInt
	}
	return &quota{limit}
}

// page returns the number of rows to read next.
func (q *quota) page() int { return min(q.left, pageSize) }

// take reports whether the quota is used up after n more rows.
func (q *quota) take(n int) bool {
	q.left -= n
	return q.left <= 0
}

// shown returns a time as tables show it.
func shown(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
