package sqlstore_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/audit"
	"github.com/sessiond/sessiond/identity/clients"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
)

var byCarol = audit.Act{Actor: audit.ByAdministrator, ActorID: "carol", Address: "192.0.2.7", Reason: "a test"}

var discard = slog.New(slog.DiscardHandler)

func envelopeFor(user string) mail.Envelope {
	return mail.Envelope{Kind: mail.KindPasswordReset, UserID: user, To: user + "@example.org"}
}

// add adds a user whose id is the name.
func add(t *testing.T, db *sqlstore.DB, name string, change func(*identity.User)) {
	t.Helper()
	u := newUser(name)
	u.ID, u.Email = name, name+"@example.org"
	if change != nil {
		change(&u)
	}
	if err := db.Users().Create(t.Context(), u, time.Time{}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestFind_PagesThroughUsersInOneOrder(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		add(t, db, "ada", func(u *identity.User) { u.Roles = "admin,reader" })
		add(t, db, "adam", func(u *identity.User) { u.Status, u.EmailVerifiedAt = identity.StatusPending, time.Time{} })
		add(t, db, "Adèle", nil)
		add(t, db, "bob", func(u *identity.User) { u.Roles = "reader" })
		add(t, db, "carl", nil)
		if _, err := db.Users().Suspend(t.Context(), "carl", longAgo); err != nil {
			t.Fatal(err)
		}
		add(t, db, "dora", func(u *identity.User) { u.Roles = "reader" })
		if _, err := db.Users().Delete(t.Context(), "dora", longAgo, mail.Envelope{}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"twin1", "twin2"} { // both claim one address
			add(t, db, name, func(u *identity.User) {
				u.Email, u.Status, u.EmailVerifiedAt = "twin@example.org", identity.StatusPending, time.Time{}
			})
		}
		for _, c := range []struct {
			query identity.UserQuery
			want  string
		}{
			{identity.UserQuery{}, "Adèle ada adam bob carl twin1 twin2"},
			{identity.UserQuery{Prefix: "ad"}, "ada adam Adèle"},
			{identity.UserQuery{Prefix: "ada"}, "ada adam"},
			{identity.UserQuery{Prefix: "ada@"}, "ada"},
			{identity.UserQuery{Prefix: "adam@example"}, "adam"},
			{identity.UserQuery{Prefix: "d"}, ""},
			{identity.UserQuery{Prefix: "ad", Status: identity.StatusPending}, "adam"},
			{identity.UserQuery{Status: identity.StatusSuspended}, "carl"},
			{identity.UserQuery{Status: identity.StatusDeleted}, "dora"},
			{identity.UserQuery{Role: "reader"}, "ada bob"},
			{identity.UserQuery{Role: "admin", Status: identity.StatusActive}, "ada"},
			{identity.UserQuery{Role: "admin", Prefix: "b"}, ""},
			{identity.UserQuery{Role: "read"}, ""},
			{identity.UserQuery{Prefix: "twin@"}, "twin1 twin2"},
		} {
			for _, limit := range []int{1, 2, 10} {
				var got []string
				query := c.query
				for query.Limit = limit; ; {
					page, err := db.Users().Find(t.Context(), query)
					if err != nil {
						t.Fatal(err)
					}
					for _, u := range page {
						got = append(got, u.ID)
						query.After = query.Key(&u)
					}
					if len(page) < limit {
						break
					}
				}
				if strings.Join(got, " ") != c.want {
					t.Errorf("%+v in pages of %d: %v, want %s", c.query, limit, got, c.want)
				}
			}
		}
	})
}

func TestSuspend_EndsSessionsAndRefusesLogins(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		ctx := audit.With(t.Context(), byCarol)
		add(t, db, "ada", nil)
		add(t, db, "pending", func(u *identity.User) { u.Status, u.EmailVerifiedAt = identity.StatusPending, time.Time{} })
		s, _, err := db.Sessions().Start(t.Context(), newStart("ada", 1, longAgo))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // a client may try again
			if revocation, err := db.Users().Suspend(ctx, "ada", longAgo.Add(time.Second)); err != nil || revocation == 0 {
				t.Fatalf("revocation %d, %v", revocation, err)
			}
		}
		if _, _, err := db.Sessions().Start(t.Context(), newStart("ada", 1, longAgo)); !errors.Is(err, issuer.ErrSubjectGone) {
			t.Errorf("a login of a suspended user: %v", err)
		}
		history, err := db.Sessions().History(t.Context(), "ada", issuer.Page{})
		if err != nil || len(history) != 1 || history[0].ID != s.ID || history[0].EndReason != issuer.ReasonSuspended || history[0].EndedBy != issuer.ByAdministrator {
			t.Errorf("the history is %+v, %v", history, err)
		}
		if _, err := db.Users().Suspend(ctx, "pending", longAgo); !errors.Is(err, identity.ErrNotActive) {
			t.Errorf("suspend a pending user: %v", err)
		}
		if err := db.Users().Reinstate(ctx, "pending", longAgo); !errors.Is(err, identity.ErrNotActive) {
			t.Errorf("reinstate a pending user: %v", err)
		}
		if _, err := db.Users().Suspend(ctx, "nobody", longAgo); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("suspend nobody: %v", err)
		}
		for range 2 {
			if err := db.Users().Reinstate(ctx, "ada", longAgo); err != nil {
				t.Fatal(err)
			}
		}
		if _, _, err := db.Sessions().Start(t.Context(), newStart("ada", 1, longAgo)); err != nil {
			t.Errorf("a login after the reinstatement: %v", err)
		}
		wantEvents(t, db, "administrator", "user.suspended active>suspended", "sessions.ended >", "user.reinstated suspended>active")
	})
}

// wantEvents seals all events, and checks those of an actor.
func wantEvents(t *testing.T, db *sqlstore.DB, actor string, want ...string) []audit.Event {
	t.Helper()
	if err := (&audit.Sealer{Store: db.Events(), Log: discard}).Seal(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := db.Events().Events(t.Context(), audit.Query{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(e audit.Event) bool { return e.Actor != actor })
	var got []string
	for _, e := range all {
		got = append(got, fmt.Sprintf("%s %s>%s", e.Type, e.Before, e.After))
		if e.Actor == byCarol.Actor && (e.ActorID != byCarol.ActorID || e.Address != byCarol.Address || e.Reason != byCarol.Reason) {
			t.Errorf("the event %+v does not say who did it", e)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the events are %q, want %q", got, want)
	}
	return all
}

func TestSetAttributes_RecordsBothValues(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		ctx := audit.With(t.Context(), byCarol)
		add(t, db, "ada", func(u *identity.User) { u.Roles = "reader" })
		first := "Ada"
		if _, err := db.Users().Update(ctx, "ada", identity.Profile{FirstName: &first}, longAgo); err != nil {
			t.Fatal(err)
		}
		if _, err := db.Users().SetAttributes(ctx, "ada", identity.AttributeChange{Roles: &[]string{"b", "a"}, Claims: new(`{"x":1}`)}, longAgo); err != nil {
			t.Fatal(err)
		}
		if err := db.Users().Enqueue(ctx, envelopeFor("ada"), longAgo); err != nil {
			t.Fatal(err)
		}
		events := wantEvents(t, db, "administrator", "user.profile_changed >", "user.roles_changed reader>a,b", `user.claims_changed >{"x":1}`, "mail.requested >")
		if len(events) == 4 && (events[0].Detail != "first_name" || events[3].Detail != "password_reset") {
			t.Errorf("details %q and %q", events[0].Detail, events[3].Detail)
		}
	})
}

// populate starts n sessions of as many users, one a second, with addresses 10.0.0.i.
func populate(t *testing.T, db *sqlstore.DB, n int) []issuer.Session {
	t.Helper()
	var all []issuer.Session
	for i := range n {
		name := fmt.Sprintf("user%03d", i)
		add(t, db, name, nil)
		start := newStart(name, 1, longAgo.Add(time.Duration(i)*time.Second))
		start.Client = issuer.Client{IP: fmt.Sprint("10.0.0.", i), UserAgent: fmt.Sprintf("Agent_%d%%", i%3), Device: "device"}
		s, _, err := db.Sessions().Start(t.Context(), start)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

func TestSearch_SelectsWhatTheFilterSays(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		all := populate(t, db, 12)
		now := longAgo.Add(time.Minute)
		end := issuer.Ending{At: now, Reason: issuer.ReasonLogout, By: issuer.ByUser}
		if _, _, err := db.Sessions().Revoke(t.Context(), all[10].Subject, all[10].ID, end); err != nil {
			t.Fatal(err)
		}
		if _, _, err := db.Sessions().RevokeAll(t.Context(), all[11].Subject, "", end); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			filter issuer.Filter
			want   string
		}{
			{issuer.Filter{}, "9 8 7 6 5 4 3 2 1 0"},
			{issuer.Filter{Subject: "user004"}, "4"},
			{issuer.Filter{Subject: "nobody"}, ""},
			{issuer.Filter{Address: netip.MustParsePrefix("10.0.0.4/30")}, "7 6 5 4"},
			{issuer.Filter{Address: netip.MustParsePrefix("10.0.0.5/32")}, "5"},
			{issuer.Filter{Address: netip.MustParsePrefix("::/0")}, ""},
			{issuer.Filter{UserAgent: "AGENT_1%"}, "7 4 1"},
			{issuer.Filter{UserAgent: "agent%1"}, ""},
			{issuer.Filter{CreatedAfter: longAgo.Add(8 * time.Second)}, "9 8"},
			{issuer.Filter{CreatedBefore: longAgo.Add(2 * time.Second)}, "1 0"},
			{issuer.Filter{CreatedAfter: longAgo.Add(2 * time.Second), CreatedBefore: longAgo.Add(4 * time.Second)}, "3 2"},
			{issuer.Filter{SeenBefore: longAgo.Add(3 * time.Second), UserAgent: "_0"}, "0"},
		} {
			for _, limit := range []int{1, 3, 100} {
				var got []string
				for page := (issuer.Page{Limit: limit}); ; {
					found, next, err := db.Sessions().Search(t.Context(), c.filter, now, page)
					if err != nil {
						t.Fatal(err)
					}
					for _, s := range found {
						got = append(got, fmt.Sprint(slices.IndexFunc(all, func(a issuer.Session) bool { return a.ID == s.ID })))
						if s.Username != s.Subject || s.IP == "" {
							t.Errorf("the session %+v is incomplete", s)
						}
					}
					if page.Before = next; next == "" {
						break
					}
				}
				if strings.Join(got, " ") != c.want {
					t.Errorf("%+v in pages of %d: %v, want %s", c.filter, limit, got, c.want)
				}
			}
			n, next, err := db.Sessions().Count(t.Context(), c.filter, now, "")
			if err != nil || next != "" || int(n) != len(strings.Fields(c.want)) {
				t.Errorf("%+v: counted %d before %q, %v, want %s", c.filter, n, next, err, c.want)
			}
		}
		// An address that the retention has cut to its network is in no smaller network.
		if _, err := db.SQL().ExecContext(t.Context(), `UPDATE sessions SET ip = '10.0.0.0/24' WHERE user_id = 'user005'`); err != nil {
			t.Fatal(err)
		}
		for text, want := range map[string]int64{"10.0.0.5/32": 0, "10.0.0.0/24": 10, "10.0.0.0/16": 10} {
			if n, _, err := db.Sessions().Count(t.Context(), issuer.Filter{Address: netip.MustParsePrefix(text)}, now, ""); err != nil || n != want {
				t.Errorf("%s: counted %d, %v, want %d", text, n, err, want)
			}
		}
	})
}

func TestBulk_EndsWhatTheFilterSelectsOnce(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		all := populate(t, db, 12)
		now := longAgo.Add(time.Minute)
		ctx := audit.With(t.Context(), byCarol)
		b := issuer.Bulk{ID: issuer.NewTimedID(now), Filter: issuer.Filter{UserAgent: "agent_1", CreatedBefore: now}, State: issuer.BulkCounting, StartedAt: now}
		if err := db.Sessions().StartBulk(ctx, b, "", 0); err != nil {
			t.Fatal(err)
		}
		claim := func(owner, id string, at time.Time) string {
			t.Helper()
			claimed, err := db.Sessions().ClaimBulk(t.Context(), id, owner, at, time.Minute)
			if err != nil && !errors.Is(err, issuer.ErrNotFound) {
				t.Fatal(err)
			}
			return claimed
		}
		if first, second, late := claim("a", "", now), claim("b", "", now), claim("b", "", now.Add(2*time.Minute)); first != b.ID || second != "" || late != b.ID {
			t.Errorf("claimed %q, %q while the lease runs, and %q after it", first, second, late)
		}
		if lost, kept := claim("a", b.ID, now.Add(2*time.Minute)), claim("b", b.ID, now.Add(2*time.Minute)); lost != "" || kept != b.ID {
			t.Errorf("the owner before claims %q, and the present one %q", lost, kept)
		}
		var ended []issuer.Revocation
		var steps int
		for b.State != issuer.BulkDone {
			var some []issuer.Revocation
			var err error
			if b, some, err = db.Sessions().StepBulk(t.Context(), b.ID, now, 3); err != nil {
				t.Fatal(err)
			}
			ended = append(ended, some...)
			if steps++; steps == 3 { // it waits until all are enforced
				if b.State != issuer.BulkRevoking || len(some) != 1 {
					t.Errorf("step 3: %+v, %d revocations", b, len(some))
				}
				if b, some, err = db.Sessions().StepBulk(t.Context(), b.ID, now, 3); err != nil || b.State != issuer.BulkRevoking || len(some) != 0 || !b.Waits {
					t.Fatalf("a step before the revocations are enforced: %+v, %v", b, err)
				}
				for _, r := range ended {
					if err := db.Sessions().RevocationDone(t.Context(), r.ID); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		if len(ended) != 4 || b.Matched != 4 || b.Revoked != 4 || !b.FinishedAt.Equal(now) {
			t.Errorf("%d revocations, %+v", len(ended), b)
		}
		for _, r := range ended {
			if r.ID == 0 || r.SessionID == "" || r.Until.IsZero() || !slices.ContainsFunc(all, func(s issuer.Session) bool { return s.ID == r.SessionID && s.Subject == r.Subject }) {
				t.Errorf("the revocation %+v is incomplete", r)
			}
		}
		if n, _, err := db.Sessions().Count(t.Context(), issuer.Filter{}, now, ""); err != nil || n != 8 {
			t.Errorf("%d sessions are left, %v", n, err)
		}
		if claimed := claim("c", "", now.Add(time.Hour)); claimed != "" {
			t.Errorf("claimed %q after it was done", claimed)
		}
		history, err := db.Sessions().History(t.Context(), "user001", issuer.Page{})
		if err != nil || len(history) != 1 || history[0].EndReason != issuer.ReasonAdministrator || history[0].EndedBy != issuer.ByAdministrator {
			t.Errorf("the history is %+v, %v", history, err)
		}
		wantEvents(t, db, "administrator", `revocation.requested >{"user_agent":"agent_1","created_before":"`+now.Format(time.RFC3339Nano)+`"}`,
			"session.ended >", "session.ended >", "session.ended >", "session.ended >", "revocation.finished >4")
	})
}

// An earlier act may have ended sessions that the filter would select, and not enforced that.
func TestBulk_WaitsForEarlierRevocations(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		all := populate(t, db, 2)
		now := longAgo.Add(time.Minute)
		_, earlier, err := db.Sessions().Revoke(t.Context(), all[0].Subject, all[0].ID, issuer.Ending{At: now, Reason: issuer.ReasonRevoked, By: issuer.ByUser})
		if err != nil {
			t.Fatal(err)
		}
		later := now.Add(time.Minute)
		b := issuer.Bulk{ID: issuer.NewTimedID(later), Filter: issuer.Filter{Subject: all[0].Subject}, State: issuer.BulkCounting, StartedAt: later}
		if err := db.Sessions().StartBulk(t.Context(), b, "", 0); err != nil {
			t.Fatal(err)
		}
		step := func() {
			t.Helper()
			if b, _, err = db.Sessions().StepBulk(t.Context(), b.ID, later, 10); err != nil {
				t.Fatal(err)
			}
		}
		for range 4 {
			step()
		}
		if b.State != issuer.BulkRevoking || !b.Waits {
			t.Errorf("while an earlier revocation waits: %+v", b)
		}
		if err := db.Sessions().RevocationDone(t.Context(), earlier.ID); err != nil {
			t.Fatal(err)
		}
		// A later one, of anybody, does not matter.
		if _, _, err := db.Sessions().Revoke(t.Context(), all[1].Subject, all[1].ID, issuer.Ending{At: later.Add(time.Second), Reason: issuer.ReasonRevoked, By: issuer.ByUser}); err != nil {
			t.Fatal(err)
		}
		if step(); b.State != issuer.BulkDone || b.Waits {
			t.Errorf("after that: %+v", b)
		}
	})
}

func TestVerify_FindsChangedAndRemovedEvents(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		seal := func() {
			t.Helper()
			if err := (&audit.Sealer{Store: db.Events(), Log: discard}).Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		verify := func(noted ...audit.Head) (audit.Head, error) {
			r, err := audit.Verify(t.Context(), db.Events(), noted, func(_, _ int64) {})
			return r.Head, err
		}
		if head, err := verify(); err != nil || head.Number != 0 {
			t.Errorf("an empty chain: %v, %v", head, err)
		}
		for i := range 5 {
			add(t, db, fmt.Sprint("u", i), nil)
		}
		seal()
		noted, err := verify()
		if err != nil || noted.Number != 5 {
			t.Fatalf("five events: %v, %v", noted, err)
		}
		for i := 5; i < 10; i++ {
			add(t, db, fmt.Sprint("u", i), nil)
		}
		seal()
		if head, err := verify(noted); err != nil || head.Number != 10 {
			t.Fatalf("ten events: %v, %v", head, err)
		}
		if _, err := verify(audit.Head{Number: 11, Hash: noted.Hash}); err == nil {
			t.Error("the chain ends before the noted head, and nothing is found")
		}
		// A chain that was made anew is found only by a noted head.
		exec := func(text string) {
			t.Helper()
			if _, err := db.SQL().ExecContext(t.Context(), text); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct{ name, do, undo string }{
			{"the type", `UPDATE events SET type = 'x' WHERE number = 4`, `UPDATE events SET type = 'user.registered' WHERE number = 4`},
			{"the reason of the last", `UPDATE events SET reason = 'x' WHERE number = 10`, `UPDATE events SET reason = '' WHERE number = 10`},
			{"the user of the first", `UPDATE events SET user_id = 'u9' WHERE number = 1`, `UPDATE events SET user_id = 'u0' WHERE number = 1`},
			{"a number", `UPDATE events SET number = 99 WHERE number = 7`, `UPDATE events SET number = 7 WHERE number = 99`},
			{"the link", `UPDATE events SET previous = number_6.previous FROM (SELECT previous FROM events WHERE number = 6) AS number_6 WHERE number = 7`, ``},
		} {
			exec(c.do)
			var fault *audit.Fault
			if _, err := verify(); !errors.As(err, &fault) {
				t.Errorf("%s was changed: %v", c.name, err)
			}
			if c.undo != "" {
				exec(c.undo)
				if _, err := verify(); err != nil {
					t.Errorf("%s was changed back: %v", c.name, err)
				}
			}
		}
		// Make a new chain from the events as they are now.
		exec(`UPDATE events SET number = NULL, previous = NULL`)
		exec(`UPDATE event_chain SET number = 0`)
		if _, err := db.SQL().ExecContext(t.Context(), db.SQL().Rebind(`UPDATE event_chain SET hash = ?`), []byte{}); err != nil {
			t.Fatal(err)
		}
		exec(`UPDATE events SET type = 'x' WHERE user_id = 'u2'`)
		seal()
		if _, err := verify(); err != nil {
			t.Errorf("a new chain: %v", err)
		}
		if _, err := verify(noted); err == nil {
			t.Error("a new chain has the noted head")
		}
		exec(`DELETE FROM events WHERE number = 3`)
		if _, err := verify(); err == nil {
			t.Error("an event was removed, and nothing is found")
		}
	})
}

func TestVerify_AcceptsThatOldEventsAreForgotten(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		for i := range 6 {
			add(t, db, fmt.Sprint("u", i), func(u *identity.User) { u.CreatedAt = longAgo.Add(time.Duration(i) * time.Hour) })
		}
		if err := (&audit.Sealer{Store: db.Events(), Log: discard}).Seal(t.Context()); err != nil {
			t.Fatal(err)
		}
		verify := func(noted ...audit.Head) (audit.Head, error) {
			r, err := audit.Verify(t.Context(), db.Events(), noted, func(_, _ int64) {})
			return r.Head, err
		}
		whole, err := verify()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Users().Prune(t.Context(), identity.ForgetEvents, longAgo.Add(2*time.Hour), longAgo, 100); err != nil {
			t.Fatal(err)
		}
		if head, err := verify(); err != nil || head.Forgotten != 2 || head.Number != 6 {
			t.Errorf("two events are forgotten: %+v, %v", head, err)
		}
		if _, err := verify(whole); err != nil {
			t.Errorf("the head from before: %v", err)
		}
		if _, err := db.SQL().ExecContext(t.Context(), `DELETE FROM events WHERE number = 3`); err != nil {
			t.Fatal(err)
		}
		if _, err := verify(); err == nil {
			t.Error("an event that is not old was removed, and nothing is found")
		}
		// Somebody removes all events and claims that they were old.
		for _, text := range []string{`DELETE FROM events`, `UPDATE event_chain SET forgotten = number`} {
			if _, err := db.SQL().ExecContext(t.Context(), text); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := verify(whole); err == nil {
			t.Error("all events were removed, and a noted head does not show it")
		}
	})
}

func TestSeal_LosesNoEventBesideOtherReplicas(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		const writers, each = 4, 25
		done := make(chan error, writers+2)
		ctx, stop := context.WithCancel(t.Context())
		for range 2 {
			go func() {
				for {
					if _, err := db.Events().Seal(ctx, 7); err != nil {
						done <- nil
						return
					}
				}
			}()
		}
		for w := range writers {
			go func() {
				var err error
				for i := range each {
					err = errors.Join(err, db.Users().RecordAttempt(t.Context(), identity.Attempt{ID: fmt.Sprint(w, ".", i), Reason: "unknown_user", At: longAgo}))
				}
				done <- err
			}()
		}
		for range writers {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		stop()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		// A sealer that was stopped may hold the lock of the chain a little longer.
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
			if err := (&audit.Sealer{Store: db.Events(), Log: discard}).Seal(t.Context()); err != nil {
				t.Fatal(err)
			}
			if head, err := db.Events().Head(t.Context()); err != nil || head.Number == writers*each {
				break
			}
		}
		report, err := audit.Verify(t.Context(), db.Events(), nil, func(_, _ int64) {})
		if err != nil || report.Head.Number != writers*each || report.First != 1 {
			t.Errorf("the chain is %+v, %v, want %d events", report, err, writers*each)
		}
	})
}

// The retention removes events that are about to be sealed. That must neither fail nor leave a gap.
func TestSeal_LeavesNoGapBesideRetention(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		for round := range 30 {
			for i := range 20 {
				if err := db.Users().RecordAttempt(t.Context(), identity.Attempt{ID: fmt.Sprint(round, ".", i), Reason: "unknown_user", At: longAgo}); err != nil {
					t.Fatal(err)
				}
			}
			pruned := make(chan error, 1)
			go func() {
				_, err := db.Users().Prune(t.Context(), identity.ForgetEvents, longAgo.Add(time.Hour), longAgo, 100)
				pruned <- err
			}()
			_, err := db.Events().Seal(t.Context(), 100)
			if err := errors.Join(err, <-pruned); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := audit.Verify(t.Context(), db.Events(), nil, func(_, _ int64) {}); err != nil {
			t.Error(err)
		}
	})
}

func TestClients_KeepsBothSecretsForAWhile(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		ctx, now := audit.With(t.Context(), byCarol), longAgo
		store := db.Clients()
		r := &clients.Registry{Store: store, Now: func() time.Time { return now }}
		want := func(secret string, want bool) {
			t.Helper()
			now = now.Add(time.Second) // the list is read at most every half second
			if err := r.Read(t.Context()); err != nil {
				t.Fatal(err)
			}
			c, err := r.Authenticate(t.Context(), "orders", secret)
			if got := err == nil && c.May(clients.AdminRead) && !c.May(clients.Introspect); got != want || err != nil && !errors.Is(err, clients.ErrUnknown) {
				t.Errorf("secret %q: %+v, %v, want %t", secret, c, err, want)
			}
		}
		want("", false)
		c := clients.Client{ID: "orders", Scopes: []clients.Scope{clients.AdminWrite}, SecretHash: clients.HashOf("one"), CreatedAt: now}
		if err := store.AddClient(ctx, c); err != nil {
			t.Fatal(err)
		}
		if err := store.AddClient(ctx, c); !errors.Is(err, clients.ErrTaken) {
			t.Errorf("add it again: %v", err)
		}
		want("one", true)
		want("", false)
		want("two", false)
		if err := store.RotateClient(ctx, "orders", clients.HashOf("two"), now.Add(time.Hour), now); err != nil {
			t.Fatal(err)
		}
		want("one", true)
		want("two", true)
		want("", false)
		now = now.Add(time.Hour)
		want("one", false)
		want("two", true)
		if err := store.RevokeClient(ctx, "orders", now); err != nil {
			t.Fatal(err)
		}
		want("two", false)
		if err := store.RotateClient(ctx, "orders", clients.HashOf("three"), now, now); !errors.Is(err, clients.ErrNotFound) {
			t.Errorf("rotate a revoked client: %v", err)
		}
		if err := store.RevokeClient(ctx, "other", now); !errors.Is(err, clients.ErrNotFound) {
			t.Errorf("revoke an unknown client: %v", err)
		}
		wantEvents(t, db, "administrator", "client.added >admin:write", "client.rotated >", "client.revoked >")
	})
}

func TestNumbers_CountsWhatWaits(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		all := populate(t, db, 3)
		add(t, db, "pending", func(u *identity.User) { u.Status, u.EmailVerifiedAt = identity.StatusPending, time.Time{} })
		if _, err := db.Users().Suspend(t.Context(), all[0].Subject, longAgo); err != nil {
			t.Fatal(err)
		}
		if err := db.Users().Enqueue(t.Context(), envelopeFor("ada"), longAgo); err != nil {
			t.Fatal(err)
		}
		n, err := db.Numbers(t.Context(), longAgo.Add(time.Minute))
		n.Users, n.Sessions = 0, 0 // estimates
		if want := (sqlstore.Numbers{Pending: 1, Suspended: 1, Logins: 3, Revocations: 1, Mails: 1}); err != nil || n != want {
			t.Errorf("%+v, %v, want %+v", n, err, want)
		}
	})
}
