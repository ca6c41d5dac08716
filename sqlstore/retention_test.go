package sqlstore_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
)

// history is a database with a user whose logins a test adds at different times.
type history struct {
	*testing.T
	db   *sqlstore.DB
	user identity.User
	now  time.Time
}

// eachHistory runs f on each database, with a user.
func eachHistory(t *testing.T, f func(h *history)) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		h := &history{T: t, db: db, user: newUser("ada"), now: longAgo.AddDate(10, 0, 0)}
		h.ok(db.Users().Create(t.Context(), h.user, time.Time{}, nil))
		f(h)
	})
}

func (h *history) ok(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

const (
	browser = "Mozilla/5.0 (Canary 1.2.3)"
	device  = "Chrome on macOS"
)

// login adds a session that began at age before now, from an address. It expires a day after its login.
func (h *history) login(age time.Duration, ip string) issuer.Session {
	h.Helper()
	start := newStart(h.user.ID, 1, h.now.Add(-age))
	start.Client = issuer.Client{IP: ip, UserAgent: browser, Device: device}
	s, _, err := h.db.Sessions().Start(h.Context(), start)
	h.ok(err)
	return s
}

// logout ends a session an hour after its login, when its access token has just expired.
func (h *history) logout(s issuer.Session) {
	h.Helper()
	_, _, err := h.db.Sessions().Revoke(h.Context(), h.user.ID, s.ID, issuer.Ending{At: s.CreatedAt.Add(time.Hour), Reason: issuer.ReasonLogout, By: issuer.ByUser})
	h.ok(err)
}

// fail adds a failed login of the user or, without a user id, of nobody.
func (h *history) fail(age time.Duration, userID, ip string) {
	h.Helper()
	at := h.now.Add(-age)
	h.ok(h.db.Users().RecordAttempt(h.Context(), identity.Attempt{
		ID: issuer.NewTimedID(at), UserID: userID, IP: ip, UserAgent: browser, Device: device, Reason: "wrong_password", At: at,
	}))
}

// prune does one batch of a chore for what is older than a day.
func (h *history) prune(chore identity.Chore, limit int, wantMore bool) {
	h.Helper()
	more, err := h.db.Users().Prune(h.Context(), chore, h.now.Add(-24*time.Hour), h.now, limit)
	h.ok(err)
	if more != wantMore {
		h.Errorf("Prune(%s, %d) says that there is more: %t, want %t", chore, limit, more, wantMore)
	}
}

// texts returns the first column of a query.
func (h *history) texts(query string) []string {
	h.Helper()
	var texts []string
	h.ok(h.db.SQL().SelectContext(h.Context(), &texts, query))
	return texts
}

func (h *history) left(what, query string, want ...string) {
	h.Helper()
	if got := h.texts(query); !slices.Equal(got, want) {
		h.Errorf("%s: left are %q, want %q", what, got, want)
	}
}

func TestPrune_DeletesSessionsThatAreOverByTheTimeOfTheirLogin(t *testing.T) {
	const sessions = `SELECT id FROM sessions ORDER BY id`
	eachHistory(t, func(h *history) {
		ctx := h.Context()
		h.login(72*time.Hour, "192.0.2.1") // it expired
		ended := h.login(71*time.Hour, "192.0.2.1")
		revocation, err := h.db.Sessions().RevokeToken(ctx, h.user.ID, ended.ID, ended.TokenID, ended.AccessExpiresAt, ended.CreatedAt)
		h.ok(err)
		h.logout(ended)
		open, live := h.login(70*time.Hour, "192.0.2.1"), h.login(69*time.Hour, "192.0.2.1")
		h.logout(live)
		young := h.login(time.Hour, "192.0.2.1")
		h.logout(young)
		exec := func(query string, args ...any) {
			h.Helper()
			_, err := h.db.SQL().ExecContext(ctx, h.db.SQL().Rebind(query), args...)
			h.ok(err)
		}
		later := h.now.Add(time.Hour)
		exec(`UPDATE sessions SET expires_at = ? WHERE id = ?`, later, open.ID)        // it was refreshed
		exec(`UPDATE sessions SET access_expires_at = ? WHERE id = ?`, later, live.ID) // a check may see its token, although the session has ended

		h.prune(identity.ForgetSessions, 1, true)
		h.left("after the first batch", sessions, ended.ID, open.ID, live.ID, young.ID)
		h.prune(identity.ForgetSessions, 2, true)
		h.prune(identity.ForgetSessions, 2, false)
		h.left("after all batches", sessions, open.ID, live.ID, young.ID)
		h.left("the revoked token", `SELECT jti FROM revoked_tokens`)
		if _, err := h.db.Sessions().Revocation(ctx, revocation.ID); err != nil {
			h.Errorf("the revocation that Redis may not know: %v", err)
		}
		h.now = later.Add(issuer.Margin + time.Second)
		h.prune(identity.ForgetSessions, 10, false)
		h.left("when the others are over, too", sessions, young.ID)
	})
}

func TestPrune_DeletesOldFailedLoginsAndEventsOldestFirst(t *testing.T) {
	const (
		attempts = `SELECT ip FROM login_attempts ORDER BY id`
		events   = `SELECT count(*) FROM events WHERE type = 'login.failed'`
	)
	eachHistory(t, func(h *history) {
		h.fail(50*time.Hour, h.user.ID, "192.0.2.1")
		h.fail(49*time.Hour, "", "192.0.2.2")
		h.fail(48*time.Hour, "", "192.0.2.3")
		h.fail(23*time.Hour, h.user.ID, "192.0.2.4")
		h.fail(0, "", "192.0.2.5")
		h.prune(identity.ForgetAttempts, 2, true)
		h.left("after a batch", attempts, "192.0.2.3", "192.0.2.4", "192.0.2.5")
		h.prune(identity.ForgetAttempts, 2, false)
		h.left("after all batches", attempts, "192.0.2.4", "192.0.2.5")
		h.left("before", events, "5")
		h.prune(identity.ForgetEvents, 2, true) // the registration is older than the failed logins
		h.left("after a batch", events, "4")
		h.prune(identity.ForgetEvents, 2, true)
		h.prune(identity.ForgetEvents, 2, false)
		h.left("after all batches", events, "2")
	})
}

func TestPrune_CutsAddressesToTheirNetworksAndUserAgentsToTheDevice(t *testing.T) {
	eachHistory(t, func(h *history) {
		addresses := []string{"203.0.113.77", "2001:db8:1:2:3:4:5:6", "::ffff:198.51.100.9", "nonsense", "", "203.0.113.78"}
		networks := []string{"203.0.113.0/24", "2001:db8:1::/48", "198.51.100.0/24", "", "", "203.0.113.0/24"}
		for i, ip := range addresses {
			age := 48*time.Hour - time.Duration(i)*time.Minute
			if s := h.login(age, ip); i%2 == 0 {
				h.logout(s)
			}
			h.fail(age, h.user.ID, ip)
		}
		h.login(time.Hour, "192.0.2.1")
		h.fail(time.Hour, "", "192.0.2.1")
		for table, chore := range map[string]identity.Chore{"sessions": identity.CutSessions, "login_attempts": identity.CutAttempts} {
			ips := `SELECT ip FROM ` + table + ` ORDER BY id`
			agents := `SELECT DISTINCT user_agent FROM ` + table + ` WHERE ip <> '192.0.2.1'`
			h.prune(chore, 4, true)
			h.prune(chore, 4, false)
			h.left(table, ips, append(slices.Clone(networks), "192.0.2.1")...)
			h.left(table, agents, device)
			h.left(table, `SELECT user_agent FROM `+table+` WHERE ip = '192.0.2.1'`, browser)
		}
		h.now = h.now.Add(24 * time.Hour)
		h.prune(identity.CutSessions, 4, false)
		h.left("a day later", `SELECT ip FROM sessions ORDER BY id`, append(networks, "192.0.2.0/24")...)
	})
}

// A dump of every table holds no full address and no user agent that is older than the retention of
// addresses, whatever happened to the session or the account.
func TestPrune_LeavesNoOldAddressInAnyTable_ASVS_V14_2_4(t *testing.T) {
	const ip4, ip6 = "203.0.113.77", "2001:db8:1:2:3:4:5:6"
	eachHistory(t, func(h *history) {
		for i := range 20 {
			s := h.login(48*time.Hour-time.Duration(i)*time.Minute, []string{ip4, ip6}[i%2])
			h.fail(48*time.Hour-time.Duration(i)*time.Minute, []string{"", h.user.ID}[i%2], ip4)
			if i%3 == 0 {
				h.logout(s)
			}
		}
		if before := h.dump(); strings.Count(before, ip4) != 30 || strings.Count(before, ip6) != 10 || strings.Count(before, browser) != 40 {
			h.Fatalf("before, the dump has %d and %d addresses and %d user agents", strings.Count(before, ip4), strings.Count(before, ip6), strings.Count(before, browser))
		}
		h.prune(identity.CutSessions, 100, false)
		h.prune(identity.CutAttempts, 100, false)
		after := h.dump()
		for _, secret := range []string{ip4, ip6, browser} {
			if strings.Contains(after, secret) {
				h.Errorf("the dump still holds %s:\n%s", secret, after)
			}
		}
	})
}

// dump returns the rows of all tables as text.
func (h *history) dump() string {
	h.Helper()
	var dump strings.Builder
	for _, table := range tables(h.T, h.db) {
		rows, err := h.db.SQL().QueryxContext(h.Context(), `SELECT * FROM `+table)
		h.ok(err)
		defer rows.Close()
		for rows.Next() {
			row := make(map[string]any)
			h.ok(rows.MapScan(row))
			fmt.Fprintln(&dump, table, row)
		}
		h.ok(rows.Err())
	}
	return dump.String()
}

// tables returns the names of all tables.
func tables(t *testing.T, db *sqlstore.DB) []string {
	t.Helper()
	query := `SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename`
	if db.SQL().DriverName() == "sqlite" {
		query = `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name`
	}
	var names []string
	if err := db.SQL().SelectContext(t.Context(), &names, query); err != nil {
		t.Fatal(err)
	}
	return names
}

func TestPrune_ReplicasDoAChoreTogether(t *testing.T) {
	eachHistory(t, func(h *history) {
		const failures = 40
		for i := range failures {
			h.fail(48*time.Hour-time.Duration(i)*time.Second, "", "192.0.2.1")
		}
		var replicas sync.WaitGroup
		for range 8 {
			replicas.Go(func() {
				for more := true; more; {
					var err error
					if more, err = h.db.Users().Prune(h.Context(), identity.ForgetAttempts, h.now, h.now, 3); err != nil {
						h.Error(err)
					}
				}
			})
		}
		replicas.Wait()
		h.left("after all replicas", `SELECT ip FROM login_attempts`)
	})
}

func TestPrune_LeavesAChoreToTheReplicaThatIsDoingIt(t *testing.T) {
	eachHistory(t, func(h *history) {
		if h.db.SQL().DriverName() == "sqlite" {
			h.Skip("SQLite has only one connection")
		}
		h.fail(48*time.Hour, "", "192.0.2.1")
		other, err := h.db.SQL().BeginTxx(h.Context(), nil)
		h.ok(err)
		defer other.Rollback() //nolint:errcheck // the test is over
		_, err = other.ExecContext(h.Context(), `SELECT done FROM retention WHERE chore = 'forget failed logins' FOR UPDATE`)
		h.ok(err)
		h.prune(identity.ForgetAttempts, 1, false)
		h.left("while another replica is at it", `SELECT ip FROM login_attempts`, "192.0.2.1")
		h.ok(other.Rollback())
		h.prune(identity.ForgetAttempts, 1, true)
		h.left("after it", `SELECT ip FROM login_attempts`)
	})
}

func TestDelete_ErasesAddressUserAgentAndDeviceInAllRows_ASVS_V14_2_4(t *testing.T) {
	eachHistory(t, func(h *history) {
		const ip = "203.0.113.77"
		other := newUser("grace")
		h.ok(h.db.Users().Create(h.Context(), other, time.Time{}, nil))
		for i := range 6 {
			if s := h.login(time.Duration(i)*time.Hour, ip); i%2 == 0 {
				h.logout(s)
			}
			h.fail(time.Duration(i)*time.Hour, h.user.ID, ip)
		}
		h.fail(0, other.ID, "192.0.2.9")
		_, err := h.db.Users().Delete(h.Context(), h.user.ID, h.now, mail.Envelope{})
		h.ok(err)
		dump := h.dump()
		for _, personal := range []string{ip, h.user.Username, h.user.Email} {
			if strings.Contains(dump, personal) {
				h.Errorf("the dump still holds %s:\n%s", personal, dump)
			}
		}
		for _, table := range []string{"sessions", "login_attempts"} {
			h.left("texts of the deleted account in "+table,
				`SELECT ip || user_agent || device FROM `+table+` WHERE user_id = '`+h.user.ID+`'`, slices.Repeat([]string{""}, 6)...)
		}
		h.left("another account", `SELECT ip || user_agent || device FROM login_attempts WHERE user_id = '`+other.ID+`'`, "192.0.2.9"+browser+device)
	})
}

// Accounts that an earlier release deleted kept the addresses in their history.
func TestMigrate_ErasesClientsOfAccountsThatWereDeletedBefore(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			db := open(t, d.url(t), sqlstore.Options{})
			if err := db.MigrateTo(t.Context(), 7); err != nil {
				t.Fatal(err)
			}
			const at = "'2001-02-03 04:05:06+00:00'"
			for id, deleted := range map[string]string{"gone": at, "here": "NULL"} {
				execute(t, db, `INSERT INTO users (id, username, email, first_name, last_name, password_hash, password_version, status, created_at, updated_at, deleted_at)
					VALUES ('`+id+`', '', '', '', '', '', 1, '', `+at+`, `+at+`, `+deleted+`)`,
					`INSERT INTO login_attempts (id, user_id, ip, user_agent, device, reason, created_at) VALUES ('`+id+`', '`+id+`', '192.0.2.1', 'a', 'd', '', `+at+`)`)
			}
			if err := db.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			var left []string
			if err := db.SQL().SelectContext(t.Context(), &left, `SELECT id || ip || user_agent || device FROM login_attempts ORDER BY id`); err != nil {
				t.Fatal(err)
			}
			if want := []string{"gone", "here192.0.2.1ad"}; !slices.Equal(left, want) {
				t.Errorf("the failed logins are %q, want %q", left, want)
			}
		})
	}
}
