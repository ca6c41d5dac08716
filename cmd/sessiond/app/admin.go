package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/audit"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
)

func adminCommand(env lookupEnv) *cobra.Command {
	admin := &cobra.Command{
		Use:     adminVerb,
		GroupID: operateGroup,
		Short:   "Administer users, sessions and audit events",
		Long: `Administer users, sessions and audit events, on the database and Redis themselves. With --redis-url, the verb
enforces revocations itself. Without it, the verb records them and waits until a replica has enforced them.
A verb that ends more than one session, or deletes a user, prints what would happen, and does nothing without --yes.`,
		Example: `  sessiond admin users show ada@example.com
  sessiond admin users suspend ada --reason "reported as stolen" --yes
  sessiond admin sessions revoke --address 203.0.113.0/24`,
	}
	users := &cobra.Command{Use: "users", Short: "Find, create, change, suspend and delete users", Example: "  sessiond admin users list --status suspended"}
	users.AddCommand(listUsersCommand(env), showUserCommand(env), createUserCommand(env), rolesCommand(env),
		suspendCommand(env), reinstateCommand(env), passwordResetCommand(env), deleteUserCommand(env))
	sessions := &cobra.Command{Use: "sessions", Short: "List and revoke sessions", Example: "  sessiond admin sessions list --user ada"}
	sessions.AddCommand(listSessionsCommand(env), revokeSessionsCommand(env))
	events := &cobra.Command{Use: "events", Short: "List and verify audit events", Example: "  sessiond admin events verify"}
	events.AddCommand(listEventsCommand(env), verifyEventsCommand(env))
	for _, c := range []*cobra.Command{users, sessions, events} {
		onlyVerbs(c)
		admin.AddCommand(c)
	}
	admin.AddCommand(statsCommand(env))
	onlyVerbs(admin)
	return admin
}

// userItem is a user in the output.
type userItem struct {
	ID            string          `json:"id"`
	Username      string          `json:"username"`
	Email         string          `json:"email"`
	EmailVerified bool            `json:"email_verified"`
	FirstName     string          `json:"first_name"`
	LastName      string          `json:"last_name"`
	Status        identity.Status `json:"status"`
	Roles         []string        `json:"roles"`
	Claims        string          `json:"claims,omitempty"`
	CreatedAt     time.Time       `json:"created_at"`
	Sessions      *int64          `json:"sessions,omitempty"`
}

func itemOf(u identity.User) userItem {
	return userItem{
		ID: u.ID, Username: u.Username, Email: u.Email, EmailVerified: !u.EmailVerifiedAt.IsZero(), FirstName: u.FirstName, LastName: u.LastName,
		Status: u.Status, Roles: append([]string{}, session.Roles(u.Roles).List()...), Claims: u.Claims, CreatedAt: u.CreatedAt,
	}
}

// pageSize is the number of rows that one statement reads.
const pageSize = 100

func listUsersCommand(env lookupEnv) *cobra.Command {
	var text, status, role string
	var limit int
	return operatorCommand(env, &cobra.Command{
		Use:     "list",
		Short:   "List users",
		Example: "  sessiond admin users list --q ada --role admin",
	}, func(c *cobra.Command) {
		c.Flags().StringVar(&text, "q", "", "beginning of a username, or of an email address with its @; or an id")
		c.Flags().StringVar(&status, "status", "", "pending, active, suspended or deleted (default: all but deleted)")
		c.Flags().StringVar(&role, "role", "", "only users with this role")
		c.Flags().IntVar(&limit, "limit", pageSize, "maximum number of users; 0: no limit")
		complete(c, "status", "pending", "active", "suspended", "deleted")
	}, func(ctx context.Context, o *operator) error {
		return o.withStores(ctx, func(ctx context.Context, s *stores) error {
			t := table{columns: []string{"ID", "USERNAME", "EMAIL", "STATUS", "ROLES", "CREATED"}}
			query := identity.UserQuery{Status: identity.Status(status), Role: role}
			for left := newQuota(limit); ; {
				query.Limit = left.page()
				found, used, err := s.users.FindUsers(ctx, text, query)
				if err != nil {
					return err
				}
				for _, u := range found {
					t.add(itemOf(u), u.ID, u.Username, u.Email, string(u.Status), u.Roles, shown(u.CreatedAt))
				}
				if err := o.printTable(&t); err != nil || len(found) < query.Limit || left.take(len(found)) {
					return err
				}
				query.After = used.Key(&found[len(found)-1])
			}
		})
	})
}

func showUserCommand(env lookupEnv) *cobra.Command {
	return operatorCommand(env, &cobra.Command{
		Use: "show USER", Args: oneUser, Short: "Show a user, and the sessions",
		Example: "  sessiond admin users show ada",
	}, nil, func(ctx context.Context, o *operator) error {
		return o.withStores(ctx, func(ctx context.Context, s *stores) error {
			u, err := s.user(ctx, o.args[0])
			if err != nil {
				return err
			}
			active, err := s.sessions.Active(ctx, u.ID, issuer.Page{Limit: pageSize})
			if err != nil {
				return err
			}
			n, err := s.sessions.Count(ctx, issuer.Filter{Subject: u.ID}, nil)
			if err != nil {
				return err
			}
			item := itemOf(u)
			item.Sessions = &n
			return o.print(item, func(w io.Writer) {
				fmt.Fprintf(w, "id        %s\nusername  %s\nemail     %s (confirmed: %t)\nname      %s %s\nstatus    %s\nroles     %s\nclaims    %s\ncreated   %s\nsessions  %d active\n",
					u.ID, u.Username, u.Email, item.EmailVerified, u.FirstName, u.LastName, u.Status, u.Roles, u.Claims, shown(u.CreatedAt), n)
				if len(active) > 0 {
					t := newSessionTable()
					addSessions(&t, active)
					fmt.Fprintln(w)
					_ = o.printTable(&t)
				}
			})
		})
	})
}

func createUserCommand(env lookupEnv) *cobra.Command {
	var account identity.Account
	return operatorCommand(env, &cobra.Command{
		Use:   "create",
		Short: "Create a user",
		Long: `Create a user without a password. With --invite, the service mails a link to set one. Without it, the person
asks for a reset of the password.`,
		Example: "  sessiond admin users create --username ada --email ada@example.com --roles admin --invite",
	}, func(c *cobra.Command) {
		c.Flags().StringVar(&account.Username, "username", "", "`NAME` of the user; required")
		c.Flags().StringVar(&account.Email, "email", "", "`ADDRESS` of the user; required")
		c.Flags().StringVar(&account.FirstName, "first-name", "", "first `NAME`")
		c.Flags().StringVar(&account.LastName, "last-name", "", "last `NAME`")
		c.Flags().StringSliceVar(&account.Roles, "roles", nil, "comma-separated `ROLES`; admin may administer")
		c.Flags().BoolVar(&account.Invite, "invite", false, "mail a link to set a password")
	}, func(ctx context.Context, o *operator) error {
		return o.withStores(ctx, func(ctx context.Context, s *stores) error {
			u, err := s.users.CreateAccount(ctx, account)
			if err != nil {
				return err
			}
			return o.print(itemOf(u), func(w io.Writer) { fmt.Fprintf(w, "user %s created with id %s\n", u.Username, u.ID) })
		})
	})
}

func rolesCommand(env lookupEnv) *cobra.Command {
	var set, add, remove []string
	var claims string
	var change *cobra.Command
	change = operatorCommand(env, &cobra.Command{
		Use: "roles USER", Args: oneUser, Short: "Change the roles and claims of a user",
		Long:    "Change the roles and claims of a user. The next check of a token answers with the new ones.",
		Example: "  sessiond admin users roles ada --add admin\n  sessiond admin users roles ada --set billing,reader --claims '{\"tenant\":7}'",
	}, func(c *cobra.Command) {
		c.Flags().StringSliceVar(&set, "set", nil, "comma-separated `ROLES` that replace the present ones; empty: none")
		c.Flags().StringSliceVar(&add, "add", nil, "comma-separated `ROLES` to add")
		c.Flags().StringSliceVar(&remove, "remove", nil, "comma-separated `ROLES` to remove")
		c.Flags().StringVar(&claims, "claims", "", "`JSON` object that replaces the claims")
	}, func(ctx context.Context, o *operator) error {
		return o.withStores(ctx, func(ctx context.Context, s *stores) error {
			u, err := s.user(ctx, o.args[0])
			if err != nil {
				return err
			}
			roles := session.Roles(u.Roles).List()
			if change.Flags().Changed("set") {
				roles = set
			}
			roles = slices.DeleteFunc(append(slices.Clone(roles), add...), func(r string) bool { return slices.Contains(remove, r) })
			attributes := identity.AttributeChange{Roles: &roles}
			if change.Flags().Changed("claims") {
				attributes.Claims = &claims
			}
			revocation, err := s.users.UpdateAccount(ctx, u.ID, identity.Profile{}, attributes)
			if err == nil {
				err = s.enforce(ctx, revocation)
			}
			if err != nil {
				return err
			}
			if u, err = s.users.User(ctx, u.ID); err != nil {
				return err
			}
			return o.print(itemOf(u), func(w io.Writer) { fmt.Fprintf(w, "roles   %s\nclaims  %s\n", u.Roles, u.Claims) })
		})
	})
	return change
}

// errUnconfirmed means that a verb has printed what it would do, and that --yes is missing.
var errUnconfirmed = errors.New("nothing was done; repeat the command with --yes")

// endsSessions completes a verb that ends the sessions of one user. It asks for --yes if more than unasked of them
// would end.
func endsSessions(env lookupEnv, c *cobra.Command, unasked int64, what string, do func(context.Context, *stores, identity.User) (revocation int64, err error)) *cobra.Command {
	var yes bool
	c.Args = oneUser
	return operatorCommand(env, c, func(c *cobra.Command) {
		c.Flags().BoolVar(&yes, "yes", false, "do it, after the verb has said what would happen")
	}, func(ctx context.Context, o *operator) error {
		return o.withStores(ctx, func(ctx context.Context, s *stores) error {
			u, err := s.user(ctx, o.args[0])
			if err != nil {
				return err
			}
			n, err := s.sessions.Count(ctx, issuer.Filter{Subject: u.ID}, nil)
			if err != nil {
				return err
			}
			if !yes && n > unasked {
				fmt.Fprintf(o.errOut, "%s would be %s, and %d active sessions would end\n", u.Username, what, n)
				return errUnconfirmed
			}
			revocation, err := do(ctx, s, u)
			if err == nil {
				err = s.enforce(ctx, revocation)
			}
			if err != nil {
				return err
			}
			return o.print(map[string]any{"id": u.ID, "done": what, "revoked": n}, func(w io.Writer) {
				fmt.Fprintf(w, "%s is %s, and %d sessions have ended\n", u.Username, what, n)
			})
		})
	})
}

func suspendCommand(env lookupEnv) *cobra.Command {
	return endsSessions(env, &cobra.Command{
		Use: "suspend USER", Short: "Lock an account, and end all its sessions",
		Example: "  sessiond admin users suspend ada --reason \"reported as stolen\" --yes",
	}, 1, "suspended", func(ctx context.Context, s *stores, u identity.User) (int64, error) {
		return s.users.Suspend(ctx, u.ID)
	})
}

func deleteUserCommand(env lookupEnv) *cobra.Command {
	return endsSessions(env, &cobra.Command{
		Use: "delete USER", Short: "Delete an account with all personal data",
		Example: "  sessiond admin users delete ada --yes",
	}, -1, "deleted", func(ctx context.Context, s *stores, u identity.User) (int64, error) { return s.users.Delete(ctx, u.ID) })
}

// onUser completes a verb that does something to one user and ends no session.
func onUser(env lookupEnv, c *cobra.Command, done string, do func(context.Context, *stores, string) error) *cobra.Command {
	c.Args = oneUser
	return operatorCommand(env, c, nil, func(ctx context.Context, o *operator) error {
		return o.withStores(ctx, func(ctx context.Context, s *stores) error {
			u, err := s.user(ctx, o.args[0])
			if err == nil {
				err = do(ctx, s, u.ID)
			}
			if err != nil {
				return err
			}
			return o.print(map[string]string{"id": u.ID, "done": done}, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", u.Username, done) })
		})
	})
}

func reinstateCommand(env lookupEnv) *cobra.Command {
	return onUser(env, &cobra.Command{
		Use: "reinstate USER", Short: "Let a suspended user sign in again",
		Example: "  sessiond admin users reinstate ada",
	}, "reinstated", func(ctx context.Context, s *stores, id string) error { return s.users.Reinstate(ctx, id) })
}

func passwordResetCommand(env lookupEnv) *cobra.Command {
	return onUser(env, &cobra.Command{
		Use: "password-reset USER", Short: "Mail a user a link to set a new password",
		Example: "  sessiond admin users password-reset ada",
	}, "the service mails a link, if it has a mail server", func(ctx context.Context, s *stores, id string) error { return s.users.SendReset(ctx, id) })
}

// filterFlags are the flags that select sessions.
type filterFlags struct{ issuer.FilterText }

func (f *filterFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.User, "user", "", "sessions of this `USER`: a username, an email address or an id")
	c.Flags().StringVar(&f.Address, "address", "", "sessions from this IP address or `CIDR`")
	c.Flags().StringVar(&f.UserAgent, "user-agent", "", "sessions whose user agent contains this `TEXT`, in any case")
	c.Flags().StringVar(&f.CreatedAfter, "created-after", "", "sessions that began at or after this `TIME` in RFC 3339")
	c.Flags().StringVar(&f.CreatedBefore, "created-before", "", "sessions that began before this `TIME`")
	c.Flags().StringVar(&f.SeenBefore, "seen-before", "", "sessions that were not used since this `TIME`")
}

// filter also returns whether any flag is set.
func (f *filterFlags) filter(ctx context.Context, s *stores) (filter issuer.Filter, given bool, err error) {
	given = f.FilterText != issuer.FilterText{}
	text := f.FilterText
	if text.User != "" {
		u, err := s.user(ctx, text.User)
		if err != nil {
			return filter, given, err
		}
		text.User = u.ID
	}
	var problems []error
	filter = text.Parse(func(field, detail string) {
		problems = append(problems, fmt.Errorf("--%s %s", strings.ReplaceAll(field, "_", "-"), detail))
	})
	return filter, given, errors.Join(problems...)
}

// sessionItem is a session in the output.
type sessionItem struct {
	ID         string    `json:"id"`
	UserID     string    `json:"user_id"`
	Username   string    `json:"username"`
	IPAddress  string    `json:"ip_address"`
	Device     string    `json:"device"`
	UserAgent  string    `json:"user_agent"`
	CreatedAt  time.Time `json:"created_at"`
	LastSeenAt time.Time `json:"last_seen_at"`
	ExpiresAt  time.Time `json:"expires_at"`
}

func newSessionTable() table {
	return table{columns: []string{"SESSION", "USERNAME", "ADDRESS", "DEVICE", "BEGAN", "LAST SEEN"}}
}

func addSessions(t *table, list []issuer.Session) {
	for i := range list {
		s := &list[i]
		t.add(sessionItem{s.ID, s.Subject, s.Username, s.IP, s.Device, s.UserAgent, s.CreatedAt, s.LastSeenAt, s.ExpiresAt},
			s.ID, s.Username, s.IP, s.Device, shown(s.CreatedAt), shown(s.LastSeenAt))
	}
}

func listSessionsCommand(env lookupEnv) *cobra.Command {
	var flags filterFlags
	var limit int
	return operatorCommand(env, &cobra.Command{
		Use:     "list",
		Short:   "List active sessions, newest first",
		Example: "  sessiond admin sessions list --address 203.0.113.0/24 --user-agent curl",
	}, func(c *cobra.Command) {
		flags.add(c)
		c.Flags().IntVar(&limit, "limit", pageSize, "maximum number of sessions; 0: no limit")
	}, func(ctx context.Context, o *operator) error {
		return o.withStores(ctx, func(ctx context.Context, s *stores) error {
			filter, _, err := flags.filter(ctx, s)
			if err != nil {
				return err
			}
			t := newSessionTable()
			left := newQuota(limit)
			for page := (issuer.Page{}); ; {
				page.Limit = left.page()
				found, next, err := s.sessions.Search(ctx, filter, page)
				if err != nil {
					return err
				}
				addSessions(&t, found)
				if err := o.printTable(&t); err != nil || next == "" || left.take(len(found)) {
					return err
				}
				page.Before = next
			}
		})
	})
}

func revokeSessionsCommand(env lookupEnv) *cobra.Command {
	var flags filterFlags
	var id string
	var yes bool
	return operatorCommand(env, &cobra.Command{
		Use:   "revoke",
		Short: "Revoke one session, or all that the flags select",
		Long: `Revoke one session, or all active sessions that the flags select. Without --yes, the verb only counts them. If
the verb is interrupted, a replica goes on with the revocation.`,
		Example: "  sessiond admin sessions revoke --id SESSION\n  sessiond admin sessions revoke --address 203.0.113.0/24 --yes --reason \"stolen laptops\"",
	}, func(c *cobra.Command) {
		flags.add(c)
		c.Flags().StringVar(&id, "id", "", "revoke the `SESSION` with this id")
		c.Flags().BoolVar(&yes, "yes", false, "revoke the sessions instead of only counting them")
	}, func(ctx context.Context, o *operator) error {
		return o.withStores(ctx, func(ctx context.Context, s *stores) error {
			filter, given, err := flags.filter(ctx, s)
			switch {
			case err != nil:
				return err
			case given == (id != ""):
				return errors.New("want either --id or flags that select sessions; --created-before with the time of now selects all")
			case id != "":
				if _, err := s.sessions.RevokeAny(ctx, id, issuer.ReasonAdministrator); err != nil {
					return err
				}
				return o.print(map[string]int{"revoked": 1}, func(w io.Writer) { fmt.Fprintln(w, "1 session revoked") })
			}
			return o.revokeMany(ctx, s, filter, yes)
		})
	})
}

// revokeMany counts the sessions that a filter selects and, if yes is set, revokes them.
func (o *operator) revokeMany(ctx context.Context, s *stores, filter issuer.Filter, yes bool) error {
	bar := o.progress(-1, "counting")
	matched, err := s.sessions.Count(ctx, filter, func(n int64) { _ = bar.Set64(n) })
	_ = bar.Finish()
	if err != nil {
		return err
	}
	if !yes {
		if err := o.print(map[string]any{"matched": matched, "revoked": 0}, func(w io.Writer) { fmt.Fprintf(w, "%d active sessions would end\n", matched) }); err != nil {
			return err
		}
		return errUnconfirmed
	}
	start := time.Now()
	bar = o.progress(matched, "revoking")
	show := func(b issuer.Bulk) { _ = bar.Set64(min(b.Revoked, matched)) }
	var b issuer.Bulk
	if s.noRedis {
		b, err = s.sessions.StartBulk(ctx, filter, issuer.ReasonAdministrator)
	} else {
		b, err = s.sessions.RevokeBulk(ctx, filter, issuer.ReasonAdministrator, show)
	}
	if s.noRedis && err == nil || errors.Is(err, issuer.ErrNotFound) && b.ID != "" { // a replica does it
		b, err = s.await(ctx, b.ID, show)
	}
	_ = bar.Finish()
	if err != nil && b.ID != "" {
		return fmt.Errorf("revocation %s is recorded, and a replica goes on with it: %w", b.ID, err)
	}
	if err != nil {
		return err
	}
	took := time.Since(start).Round(time.Millisecond)
	return o.print(map[string]any{"id": b.ID, "matched": b.Matched, "revoked": b.Revoked, "seconds": took.Seconds()}, func(w io.Writer) {
		fmt.Fprintf(w, "%d sessions revoked in %v\n", b.Revoked, took)
	})
}

// await waits until replicas have done a revocation.
func (s *stores) await(ctx context.Context, id string, progress func(issuer.Bulk)) (issuer.Bulk, error) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := s.sessions.Bulk(ctx, id)
		if err != nil || b.State == issuer.BulkDone {
			return b, err
		}
		progress(b)
		select {
		case <-ctx.Done():
			return b, ctx.Err()
		case <-tick.C:
		}
	}
}

// progress returns a bar on standard error. With -1, the total is not known.
func (o *operator) progress(total int64, what string) *progressbar.ProgressBar {
	return progressbar.NewOptions64(total, progressbar.OptionSetWriter(o.errOut), progressbar.OptionSetDescription(what),
		progressbar.OptionShowCount(), progressbar.OptionShowIts(), progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(500*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetSpinnerChangeInterval(0))
}

func listEventsCommand(env lookupEnv) *cobra.Command {
	var query audit.Query
	var user string
	return operatorCommand(env, &cobra.Command{
		Use:     "list",
		Short:   "List audit events, oldest first",
		Example: "  sessiond admin events list --after 1200 --json\n  sessiond admin events list --type user.suspended",
	}, func(c *cobra.Command) {
		c.Flags().Int64Var(&query.After, "after", 0, "only events with a higher `NUMBER`")
		c.Flags().StringVar(&query.Type, "type", "", "only events of this `TYPE`, such as user.suspended")
		c.Flags().StringVar(&user, "user", "", "only events about this `USER`")
		c.Flags().IntVar(&query.Limit, "limit", pageSize, "maximum number of events; 0: no limit")
	}, func(ctx context.Context, o *operator) error {
		return o.withStores(ctx, func(ctx context.Context, s *stores) error {
			if user != "" {
				u, err := s.user(ctx, user)
				if err != nil && !errors.Is(err, identity.ErrNotFound) {
					return err
				}
				if query.UserID = u.ID; err != nil {
					query.UserID = user // a deleted user is known by the id alone
				}
			}
			return o.printEvents(ctx, s.DB, query)
		})
	})
}

func (o *operator) printEvents(ctx context.Context, db *sqlstore.DB, query audit.Query) error {
	t := table{columns: []string{"NUMBER", "AT", "TYPE", "USER", "SESSION", "BY", "DETAIL", "REASON"}}
	for left := newQuota(query.Limit); ; {
		query.Limit = left.page()
		events, err := db.Events().Events(ctx, query)
		if err != nil {
			return err
		}
		for i := range events {
			e := &events[i]
			detail := e.Detail
			if e.Before != "" || e.After != "" {
				detail = strings.TrimSpace(fmt.Sprintf("%s %q -> %q", detail, e.Before, e.After))
			}
			t.add(eventLine{e}, strconv.FormatInt(e.Number, 10), shown(e.At), e.Type, e.UserID, e.SessionID,
				strings.TrimSpace(e.Actor+" "+e.ActorID), detail, e.Reason)
			query.After = e.Number
		}
		if err := o.printTable(&t); err != nil || len(events) < query.Limit || left.take(len(events)) {
			return err
		}
	}
}

// eventLine is an event as a line of JSON.
type eventLine struct{ *audit.Event }

// MarshalJSON implements [json.Marshaler].
func (e eventLine) MarshalJSON() ([]byte, error) { return e.JSON(), nil }

func verifyEventsCommand(env lookupEnv) *cobra.Command {
	var heads []string
	return operatorCommand(env, &cobra.Command{
		Use:   "verify",
		Short: "Check that no audit event was changed or removed",
		Long: `Check that no audit event was changed or removed: each one has the hash of the event before. Print the end of
the chain, which can be noted and given to a later check with --head. Without a noted end, somebody who can
write the database could have made a new chain. The log of each replica has the end once an hour.`,
		Example: "  sessiond admin events verify\n  sessiond admin events verify --head 1200:9f86d0…",
	}, func(c *cobra.Command) {
		c.Flags().StringArrayVar(&heads, "head", nil, "`NUMBER:HASH` that was noted before; may be repeated")
	}, func(ctx context.Context, o *operator) error {
		var noted []audit.Head
		for _, text := range heads {
			h, err := audit.ParseHead(text)
			if err != nil {
				return fmt.Errorf("--head: %w", err)
			}
			noted = append(noted, h)
		}
		return o.withDatabase(ctx, func(ctx context.Context, db *sqlstore.DB) error {
			bar := o.progress(-1, "verifying")
			report, err := audit.Verify(ctx, db.Events(), noted, func(done, last int64) {
				bar.ChangeMax64(last)
				_ = bar.Set64(done)
			})
			_ = bar.Finish()
			if err != nil {
				return err
			}
			head := report.Head
			return o.print(map[string]any{"first": report.First, "number": head.Number, "head": head.String()}, func(w io.Writer) {
				fmt.Fprintf(w, "the events from %d to %d are as they were recorded\nhead %s\n", report.First, head.Number, head)
			})
		})
	})
}

func statsCommand(env lookupEnv) *cobra.Command {
	return operatorCommand(env, &cobra.Command{
		Use:     "stats",
		Short:   "Print how many users, sessions, logins and waiting revocations there are",
		Example: "  sessiond admin stats --json",
	}, nil, func(ctx context.Context, o *operator) error {
		return o.withDatabase(ctx, func(ctx context.Context, db *sqlstore.DB) error {
			n, err := db.Numbers(ctx, o.now())
			if err != nil {
				return err
			}
			return o.print(n, func(w io.Writer) {
				fmt.Fprintf(w, "users                %d (about), %d pending, %d suspended\nsessions             %d (about)\nlogins, last hour    %d, and %d failed\nrevocations waiting  %d\nmails waiting        %d\naudit events         %d\n",
					n.Users, n.Pending, n.Suspended, n.Sessions, n.Logins, n.FailedLogins, n.Revocations, n.Mails, n.Events)
			})
		})
	})
}
