package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/sqlstore"
)

// oldestPostgres is the oldest supported major version of PostgreSQL.
const oldestPostgres = 14

// doctorTimeout is the time limit for checking one server.
const doctorTimeout = 5 * time.Second

// tolerableSkew is the largest difference between two clocks that doctor accepts. Revocation works
// then, because Redis keeps a revocation for longer than this after the token has expired.
const tolerableSkew = 30 * time.Second

func doctorCommand(env lookupEnv) *cobra.Command {
	var s Settings
	c := &cobra.Command{
		Use:     doctorVerb,
		GroupID: prepareGroup,
		Short:   "Check a configuration against the real servers",
		Long:    "Check a configuration of serve against the real servers, and print what to fix. The doctor changes nothing.",
		Example: "  sessiond doctor --database-url-file database-url --redis-url-file redis-url --signing-keys-file keys.json \\\n" +
			"    --issuer https://id.example.com --public-url https://id.example.com",
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return s.diagnose(c.Context(), c.OutOrStdout()) },
	}
	s.addFlags(c, env)
	return c
}

// diagnose checks a configuration against the real servers and prints what to fix. It changes
// nothing.
func (s *Settings) diagnose(ctx context.Context, stdout io.Writer) error {
	d := &doctor{out: stdout}
	_, clients := s.openClients()
	_, hasher := s.openHasher(false)
	_, logger := s.logger(io.Discard, false)
	d.report("configuration", errors.Join(s.checkServe(ctx), clients, hasher, logger), "complete and safe")
	if s.SigningKeysFile != "" {
		_, err := readKeys(s.SigningKeysFile)
		d.report("signing keys", err, "the file has a key that can sign")
	}
	if s.Limits == limitsOff {
		d.warn("limits", limitsAreOff)
	}
	for _, w := range s.warnings() {
		d.warn(w.check, w.text)
	}
	for _, c := range []struct {
		name, url string
		check     func(context.Context, *Settings) error
	}{
		{"database", s.DatabaseURL, d.checkDatabase},
		{"Redis", s.RedisURL, d.checkRedis},
		{"mail", s.SMTPURL, d.checkMail},
		{"breaches", s.BreachedURL, d.checkBreaches},
	} {
		if c.url == "" {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
		if err := c.check(ctx, s); err != nil {
			d.fail(c.name, err.Error())
		}
		cancel()
	}
	if d.failed > 0 {
		return fmt.Errorf("%d problems found", d.failed)
	}
	return nil
}

type doctor struct {
	out    io.Writer
	failed int
}

func (d *doctor) print(mark, check, text string) {
	fmt.Fprintf(d.out, "%s %-14s %s\n", mark, check, text)
}

func (d *doctor) ok(check, text string)   { d.print("ok  ", check, text) }
func (d *doctor) warn(check, text string) { d.print("WARN", check, text) }

func (d *doctor) fail(check, text string) {
	d.failed++
	d.print("FAIL", check, text)
}

// report prints err as a failed check, or the text in ok if err is nil.
func (d *doctor) report(check string, err error, ok string) {
	if err != nil {
		d.fail(check, err.Error())
		return
	}
	d.ok(check, ok)
}

func (d *doctor) checkDatabase(ctx context.Context, s *Settings) error {
	if err := s.checkDatabaseURL(ctx); err != nil {
		return err // do not connect, because that would send the password unencrypted
	}
	db, err := s.connect(ctx, nil)
	if err != nil {
		return settingError("database-url", err)
	}
	defer db.Close() //nolint:errcheck // an error does not matter, because nothing was written
	if ignored := sqlstore.IgnoredParameters(s.DatabaseURL); ignored != nil {
		d.warn("database", fmt.Sprintf("SESSIOND_DATABASE_URL has parameters that are ignored: %s", strings.Join(ignored, ", ")))
	}
	version, err := db.Version(ctx)
	if err != nil {
		return err
	}
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err == nil && n < oldestPostgres {
		d.fail("database", fmt.Sprintf("PostgreSQL is version %s; want %d or later", version, oldestPostgres))
	} else {
		d.ok("database", "reachable, a primary, version "+version)
	}
	d.report("migrations", requireMigrated(ctx, db), "all applied")
	clock, err := db.Clock(ctx)
	if err != nil {
		return err
	}
	d.skew("the database's", time.Until(clock.Now()))
	return nil
}

func (d *doctor) skew(whose string, skew time.Duration) {
	text := fmt.Sprintf("%s clock is %v ahead of this machine's", whose, skew.Round(time.Millisecond))
	if skew.Abs() > tolerableSkew {
		d.fail("clock", text+"; synchronise both clocks")
		return
	}
	d.ok("clock", text)
}

func (d *doctor) checkRedis(ctx context.Context, s *Settings) error {
	if err := s.checkRedisURL(ctx); err != nil {
		return err // do not connect, because that would send the password unencrypted
	}
	store, err := redisstore.Open(s.RedisURL, redisstore.Options{Prefix: s.RedisPrefix})
	if err != nil {
		return err
	}
	defer store.Close() //nolint:errcheck // an error does not matter, because nothing was written
	sentinels, err := redisstore.InspectSentinels(ctx, s.RedisURL)
	if err != nil {
		return err
	}
	report, err := store.Inspect(ctx)
	err = settingError("redis-url", err)
	lag := 2 * time.Second // the recommended min-replicas-max-lag
	for _, n := range report.Nodes {
		d.checkNode(n, len(sentinels) > 0)
		if seconds, err := strconv.Atoi(n.MinReplicasMaxLag); err == nil && seconds > 0 && n.MinReplicasToWrite != "0" {
			lag = time.Duration(seconds) * time.Second
		}
	}
	for _, n := range sentinels {
		d.checkSentinel(n, lag+2*time.Second) // Redis counts whole seconds and looks once a second
	}
	return err
}

// checkSentinel checks what a Sentinel does in a failover. A master that was cut off may take writes
// for the time writable.
func (d *doctor) checkSentinel(n redisstore.Sentinel, writable time.Duration) {
	const check = "Sentinel"
	if n.Known == 0 {
		d.warn(check, fmt.Sprintf("%s: %v", n.Addr, n.Err))
		return
	}
	var problems []string
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if n.Known < 3 {
		problem("the master has too few Sentinels for a failover after the loss of one: %d; want at least 3", n.Known)
	}
	if majority := n.Known/2 + 1; n.Quorum < majority || n.Quorum > n.Known {
		problem("the quorum is %d of %d Sentinels; want a majority: %d", n.Quorum, n.Known, majority)
	}
	if n.DownAfter <= writable {
		problem("down-after-milliseconds is %d; want more than %d (min-replicas-max-lag + 2 s), because a master that was cut off takes writes until then",
			n.DownAfter.Milliseconds(), writable.Milliseconds())
	}
	if n.Err != nil {
		problem("no failover is possible now: %v", n.Err)
	}
	for _, text := range problems {
		d.warn(check, n.Addr+": "+text)
	}
	if problems == nil {
		d.ok(check, fmt.Sprintf("%s: %d Sentinels, quorum %d, down-after-milliseconds %d", n.Addr, n.Known, n.Quorum, n.DownAfter.Milliseconds()))
	}
}

func (d *doctor) checkNode(n redisstore.Node, sentinel bool) {
	const check = "Redis"
	version := "version " + cmp.Or(n.Version, "unknown")
	if n.Valkey != "" {
		version = "Valkey " + n.Valkey
	}
	text := fmt.Sprintf("%s: %s, %s, persistence %s", n.Addr, version, cmp.Or(n.Role, "unknown role"), cmp.Or(n.Persistence, "unknown"))
	switch {
	case n.TooOld():
		d.fail(check, text+"; want 7.0 or later")
	case n.Role != "" && n.Role != "master":
		d.fail(check, text+"; want a master")
	default:
		d.ok(check, text)
	}
	if !n.Named {
		d.fail("permissions", "INFO replication is forbidden or lacks master_replid, so every check reads Postgres; give the user +info")
	}
	switch n.MaxMemoryPolicy {
	case "", "noeviction":
		d.ok("eviction", cmp.Or(n.MaxMemoryPolicy, "unknown"))
	default:
		d.warn("eviction", n.MaxMemoryPolicy+": safe, but evicted entries are read from Postgres again; noeviction is recommended")
	}
	d.checkPromise(n, sentinel)
	if n.StopWritesOnSaveError == "yes" && n.Persistence != "none" && n.Persistence != "" {
		d.warn("persistence", "stop-writes-on-bgsave-error is yes: after a failed save, checks cannot use Redis; set it to no")
	}
	if n.Skew != nil {
		d.skew("Redis's", *n.Skew)
	}
}

// checkPromise says what is promised about revocations when this server fails: see revocation.md. The
// Sentinels, if there are some, have lines of their own.
func (d *doctor) checkPromise(n redisstore.Node, sentinel bool) {
	switch lag, err := strconv.Atoi(n.MinReplicasMaxLag); {
	case n.Replicas == "" || n.MinReplicasToWrite == "":
		d.warn("revocation", "cannot read min-replicas-to-write and the number of replicas; give the user +config|get")
	case n.Replicas == "0":
		d.ok("revocation", "no replica: safe; while this server is down, the database answers checks")
	case n.MinReplicasToWrite == "0" || err == nil && (lag == 0 || lag > 2):
		d.warn("revocation", "a master that was cut off keeps answering; set min-replicas-to-write to 1 and min-replicas-max-lag to 2")
	case sentinel:
		d.ok("revocation", "safe in a failover, if the Sentinels have no warning below")
	default:
		d.ok("revocation", "safe in a failover, if down-after-milliseconds of Sentinel is above 4000")
	}
}

func (d *doctor) checkMail(ctx context.Context, s *Settings) error {
	smtp, err := mail.NewSMTP(s.SMTPURL, s.MailFrom, s.AllowPlaintext)
	if err != nil {
		return err
	}
	err = smtp.Check(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("the mail server did not answer within %v", doctorTimeout)
	}
	d.report("mail", err, "the mail server accepts the user name and password")
	return nil
}

func (d *doctor) checkBreaches(ctx context.Context, s *Settings) error {
	var c closers
	defer c.close() //nolint:errcheck // an error does not matter, because nothing was written
	list, err := s.openBreaches(ctx, nil, &c)
	if err != nil {
		return err
	}
	if _, err = list.Contains(ctx, ""); err != nil && s.BreachedPolicy == breachedAllow {
		d.warn("breaches", err.Error()+": new passwords are not checked")
		return nil
	}
	d.report("breaches", err, "the breached-password service answers")
	return nil
}
