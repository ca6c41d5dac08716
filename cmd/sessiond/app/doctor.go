package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/sqlstore"
)

// oldestPostgres is the oldest major version that is still maintained.
const oldestPostgres = 14

// doctorTimeout bounds each examination.
const doctorTimeout = 5 * time.Second

// tolerableSkew is how far clocks may be apart before a promise suffers; the
// store keeps its entries for longer than this.
const tolerableSkew = 30 * time.Second

// runDoctor checks a configuration against the real servers and says what to
// mend. It changes nothing.
func runDoctor(ctx context.Context, args []string, env lookupEnv, stdout, stderr io.Writer) error {
	var s Settings
	f := newFlags("doctor", stderr)
	s.common(f)
	s.production(f)
	if err := f.parse(args, env); err != nil {
		return err
	}
	d := &doctor{out: stdout}
	_, clients := s.openClients()
	_, hasher := s.openHasher(false)
	_, logger := s.logger(io.Discard, false)
	d.report("configuration", errors.Join(s.checkServe(ctx), clients, hasher, logger), "complete and safe")
	if s.SigningKeysFile != "" {
		_, err := readKeys(s.SigningKeysFile)
		d.report("signing keys", err, "can sign")
	}
	if s.DatabaseURL != "" {
		d.examineDatabase(ctx, &s)
	}
	if s.RedisURL != "" {
		d.examineRedis(ctx, &s)
	}
	if s.Limits == limitsOff {
		d.warn("limits", "off: passwords can be guessed without end")
	}
	d.examineMail(ctx, &s)
	d.examineBreaches(ctx, &s)
	if d.failed > 0 {
		return fmt.Errorf("%d things to mend", d.failed)
	}
	return nil
}

type doctor struct {
	out    io.Writer
	failed int
}

func (d *doctor) line(mark, what, say string) { fmt.Fprintf(d.out, "%s %-14s %s\n", mark, what, say) }
func (d *doctor) good(what, say string)       { d.line("ok  ", what, say) }
func (d *doctor) warn(what, say string)       { d.line("WARN", what, say) }

func (d *doctor) fail(what, say string) {
	d.failed++
	d.line("MEND", what, say)
}

func (d *doctor) report(what string, err error, good string) {
	if err != nil {
		d.fail(what, err.Error())
		return
	}
	d.good(what, good)
}

func (d *doctor) examineDatabase(ctx context.Context, s *Settings) {
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	if err := s.checkDatabaseURL(ctx); err != nil {
		d.fail("database", err.Error()) // not asked: that would tell the password
		return
	}
	db, err := sqlstore.Open(ctx, s.DatabaseURL, sqlstore.Options{MaxConns: 1})
	if err != nil {
		d.fail("database", err.Error())
		return
	}
	defer db.Close() //nolint:errcheck // nothing was written
	version, err := db.Version(ctx)
	if err != nil {
		d.fail("database", err.Error())
		return
	}
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err == nil && n < oldestPostgres {
		d.fail("database", fmt.Sprintf("version %s; %d or later is needed", version, oldestPostgres))
	} else {
		d.good("database", "reachable, a primary, version "+version)
	}
	switch current, wanted, err := db.MigrationStatus(ctx); {
	case err != nil:
		d.fail("migrations", err.Error())
	case current < wanted:
		d.fail("migrations", fmt.Sprintf("at %d, %d is needed: run sessiond migrate", current, wanted))
	default:
		d.good("migrations", fmt.Sprintf("at %d", current))
	}
	clock, err := db.Clock(ctx)
	if err != nil {
		d.fail("clock", err.Error())
		return
	}
	d.skew("clock", "the database's", time.Until(clock.Now()))
}

func (d *doctor) skew(what, whose string, skew time.Duration) {
	say := fmt.Sprintf("%s is %v ahead of this machine's", whose, skew.Round(time.Millisecond))
	if skew.Abs() > tolerableSkew {
		d.fail(what, say+"; synchronise both")
		return
	}
	d.good(what, say)
}

func (d *doctor) examineRedis(ctx context.Context, s *Settings) {
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	if err := s.checkRedisURL(ctx); err != nil {
		d.fail("Redis", err.Error()) // as above
		return
	}
	store, err := redisstore.Open(s.RedisURL, redisstore.Options{Prefix: s.RedisPrefix})
	if err != nil {
		d.fail("Redis", err.Error())
		return
	}
	defer store.Close() //nolint:errcheck // nothing was written
	report, err := store.Inspect(ctx)
	if err != nil {
		d.fail("Redis", err.Error())
		return
	}
	for _, n := range report.Nodes {
		d.examineNode(n)
	}
}

func (d *doctor) examineNode(n redisstore.Node) {
	what := "Redis"
	say := fmt.Sprintf("%s: version %s, %s, persistence %s", n.Addr, orElse(n.Version, "unknown"), orElse(n.Role, "unknown role"), orElse(n.Persistence, "unknown"))
	switch {
	case n.TooOld():
		d.fail(what, say+"; 7.0 or later is needed")
	case n.Role != "" && n.Role != "master":
		d.fail(what, say+"; a master is needed")
	default:
		d.good(what, say)
	}
	if !n.Lineage {
		d.fail("lineage", "INFO replication is not allowed, or tells no master_replid: every check asks Postgres; allow the user +info")
	}
	switch n.MaxMemoryPolicy {
	case "", "noeviction":
		d.good("eviction", orElse(n.MaxMemoryPolicy, "unknown"))
	default:
		d.warn("eviction", n.MaxMemoryPolicy+": safe, but what is evicted is read from Postgres again; noeviction is recommended")
	}
	if n.StopWritesOnSaveError == "yes" && n.Persistence != "none" && n.Persistence != "" {
		d.warn("persistence", "stop-writes-on-bgsave-error is yes: a failed save stops checks from using Redis; set it to no")
	}
	if replicas, err := strconv.Atoi(n.Replicas); err == nil && replicas > 0 && n.MinReplicasToWrite == "0" {
		d.warn("failover", "min-replicas-to-write is 0: a master that is cut off goes on answering; set it to 1 and min-replicas-max-lag to 2")
	}
	if n.Skew != nil {
		d.skew("clock", "Redis's", *n.Skew)
	}
}

func (d *doctor) examineMail(ctx context.Context, s *Settings) {
	if s.SMTPURL == "" {
		d.warn("mail", "SESSIOND_SMTP_URL is not set: "+withoutMail)
		return
	}
	if s.ResetURL == "" {
		d.warn("mail", "SESSIOND_RESET_URL is not set: reset links lead to JSON, for existing clients, and to no page")
	}
	smtp, err := mail.NewSMTP(s.SMTPURL, s.MailFrom, s.AllowPlaintext)
	if err != nil {
		d.fail("mail", err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	err = smtp.Check(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("the mail server did not answer within %v", doctorTimeout)
	}
	d.report("mail", err, "the server takes our name and password")
}

func (d *doctor) examineBreaches(ctx context.Context, s *Settings) {
	if s.BreachedURL == "" {
		return
	}
	list, stop, err := s.openBreaches(ctx)
	if err != nil {
		d.fail("breaches", err.Error())
		return
	}
	defer stop() //nolint:errcheck // nothing was written
	if _, err = list.Contains(ctx, ""); err != nil && s.WhenUnchecked == allowUnchecked {
		d.warn("breaches", err.Error()+": new passwords are not checked")
		return
	}
	d.report("breaches", err, "the service answers")
}
