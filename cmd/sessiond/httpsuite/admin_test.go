package httpsuite

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

// operators are the credentials of clients with one scope each.
func operators(t *testing.T, s *service) map[string]option {
	t.Helper()
	all := map[string]option{}
	for _, scope := range []string{"introspect", "admin:read", "admin:write"} {
		secret := strings.TrimSpace(s.mustOperate(t, "clients", "add", "--id", strings.ReplaceAll(scope, ":", "-"), "--scope", scope))
		all[scope] = basic(strings.ReplaceAll(scope, ":", "-"), secret)
	}
	await(t, "the service knows the clients", func() bool {
		return s.call(t, "GET", "/v1/admin/stats", all["admin:write"]).status == 200
	})
	all["a wrong secret"] = basic("admin-write", "x")
	all["an unknown client"] = basic("nobody", "x")
	return all
}

func basic(id, secret string) option {
	return func(r *http.Request) { r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret)) }
}

// writes reports whether a route of operators changes something.
func (r *route) writes() bool { return r.method != "GET" }

// Every route of the table is tried with all kinds of credentials. TestRoutes_MatchOpenAPI and a test of the
// API compare the table with the OpenAPI document, and that with the router.
func TestAdmin_WantsRoleOrScope_ASVS_V8_2_1_V8_3_1(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		user, boss, late := s.register(t), s.administrator(t), s.administrator(t)
		clients := operators(t, s)
		var tried int
		for _, r := range routes {
			if r.kind != admin {
				continue
			}
			tried++
			call := func(who string, opt option, status int, code string) {
				t.Helper()
				opts := []option{opt}
				if r.fields != "" {
					opts = append(opts, jsonBody(shape{}))
				}
				path := r.at(issuer.NewID())
				if a := s.call(t, r.method, path, opts...).patient(t); a.status != status || code != "" && !strings.Contains(string(a.body), `"`+code+`"`) {
					t.Errorf("%s %s as %s: status %d, want %d %s: %s", r.method, r.path, who, a.status, status, code, a.body)
				}
			}
			found := 200 // what an administrator gets for an unknown id, or for an empty body
			switch {
			case strings.Contains(r.fields, "*"):
				found = 400
			case strings.Contains(r.path, "{id}"):
				found = 404
			}
			forWriter, code := 403, "insufficient_scope"
			if !r.writes() {
				forWriter, code = found, ""
			}
			call("nobody", header("X-Nobody", ""), 401, "no_token")
			call("a user without the role", bearer(user.token), 403, "not_administrator")
			call("a wrong token", bearer("x"), 401, "invalid_token")
			call("an administrator", bearer(boss.token), found, "")
			call("a client for introspection", clients["introspect"], 403, "insufficient_scope")
			call("a client that reads", clients["admin:read"], forWriter, code)
			call("a client that writes", clients["admin:write"], found, "")
			call("a wrong secret", clients["a wrong secret"], 401, "invalid_client")
			call("an unknown client", clients["an unknown client"], 401, "invalid_client")
		}
		if tried != 17 {
			t.Errorf("%d routes for operators were tried, want 17", tried)
		}
		// A role counts from the next check on, whatever the token says.
		s.mustOperate(t, "admin", "users", "roles", late.username, "--remove", "admin")
		s.call(t, "GET", "/v1/admin/stats", bearer(late.token)).problem(t, false, 403, "not_administrator")
		fresh := s.login(t, boss)
		s.mustOperate(t, "admin", "users", "roles", boss.username, "--remove", "admin")
		if !slices.Contains(claimsOf(t, fresh)["roles"].([]any), any("admin")) {
			t.Error("the token does not say that its user was an administrator, so this test shows nothing")
		}
		s.call(t, "GET", "/v1/admin/stats", bearer(fresh)).problem(t, false, 403, "not_administrator")
	})
}

func TestAdmin_WritesWantRecentSignIn_ASVS_V7_5_1(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		boss := s.administrator(t)
		for _, r := range routes {
			if r.kind != admin {
				continue
			}
			opts := []option{bearer(boss.token)}
			if r.fields != "" {
				opts = append(opts, jsonBody(shape{}))
			}
			a := s.call(t, r.method, r.at("x"), opts...).patient(t)
			if r.writes() {
				a.problem(t, false, 401, "insufficient_user_authentication")
			} else if a.status == 401 {
				t.Errorf("%s %s: status 401, although it only reads", r.method, r.path)
			}
		}
	}, "REAUTH_MAX_AGE=1ns")
}

// account is a user as operators see it.
type account struct {
	ID, Username, Email, Status string
	Roles                       []string
	Claims                      map[string]any
	Sessions                    *int
}

func TestAdmin_CreatesAndInvitesUsers(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		boss := s.administrator(t)
		name := newName()
		input := shape{"username": name, "email": name + "@example.com", "roles": []string{"reader", "billing"}, "send_invitation": true, "reason": "new colleague"}
		a := s.call(t, "POST", "/v1/admin/users", bearer(boss.token), jsonBody(input)).want(t, 201)
		var made account
		a.into(t, &made)
		if a.header.Get("Location") != "/v1/admin/users/"+made.ID || made.Status != "active" || !slices.Equal(made.Roles, []string{"billing", "reader"}) {
			t.Errorf("created %+v at %q", made, a.header.Get("Location"))
		}
		s.call(t, "POST", "/v1/admin/users", bearer(boss.token), jsonBody(input)).problem(t, false, 409, "username_taken")
		input["username"] = newName()
		s.call(t, "POST", "/v1/admin/users", bearer(boss.token), jsonBody(input)).problem(t, false, 409, "email_taken")
		p := person{username: name, email: name + "@example.com"}
		s.call(t, "POST", "/v1/sessions", jsonBody(shape{"login": name, "password": password})).problem(t, false, 401, "invalid_credentials")
		invitation := s.awaitMail(t, p.email, "account was created")
		if !strings.Contains(invitation.Text, "within 24 hours") {
			t.Errorf("the invitation reads %q", invitation.Text)
		}
		token := resetLink.FindStringSubmatch(invitation.Text)[1]
		s.call(t, "POST", "/v1/password-resets/complete", jsonBody(shape{"token": token, "password": password})).empty(t, 204)
		p.token = s.login(t, p)
		if got := claimsOf(t, p.token)["roles"]; fmt.Sprint(got) != "[billing reader]" {
			t.Errorf("the token has the roles %v", got)
		}
		if me := s.call(t, "GET", "/v1/users/me", bearer(p.token)).want(t, 200); me.text(t, "email_verified") != "true" {
			t.Error("the address is not confirmed, although the mailed link was used")
		}
		s.call(t, "POST", "/v1/admin/users/"+made.ID+"/password-reset", bearer(boss.token), jsonBody(shape{})).empty(t, 204)
		s.awaitMail(t, p.email, "reset the password")
	})
}

func TestAdmin_SuspendsAndReinstates_ASVS_V7_4_5(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		boss, p := s.administrator(t), s.register(t)
		id := claimsOf(t, p.token)["sub"].(string)
		other := s.login(t, p)
		path := "/v1/admin/users/" + id
		s.call(t, "POST", path+"/suspend", bearer(boss.token), jsonBody(shape{})).problem(t, false, 400, "invalid_request", "reason")
		s.call(t, "POST", path+"/suspend", bearer(boss.token), jsonBody(shape{"reason": "line\nbreak"})).problem(t, false, 400, "invalid_request", "reason")
		for range 2 {
			s.call(t, "POST", path+"/suspend", bearer(boss.token), jsonBody(shape{"reason": "reported as stolen"})).empty(t, 204)
		}
		for _, token := range []string{p.token, other} {
			if s.alive(t, token) {
				t.Error("a session of a suspended user is accepted")
			}
		}
		s.refreshed(t, p.refresh, 400)
		for login, body := range map[string]shape{"/v1/sessions": {"login": p.username, "password": password}, "/loginUser": {"username": p.username, "password": password}} {
			a := s.call(t, "POST", login, jsonBody(body)).want(t, 403)
			a.problem(t, login == "/loginUser", 403, "account_suspended")
			body["password"] = "wrong passphrase"
			if a := s.call(t, "POST", login, jsonBody(body)).patient(t); strings.Contains(string(a.body), "suspended") {
				t.Errorf("%s tells a stranger that the account is suspended: %s", login, a.body)
			}
		}
		var shown account
		s.call(t, "GET", path, bearer(boss.token)).want(t, 200).into(t, &shown)
		if shown.Status != "suspended" || shown.Sessions == nil || *shown.Sessions != 0 {
			t.Errorf("the user is shown as %+v", shown)
		}
		for range 2 {
			s.call(t, "POST", path+"/reinstate", bearer(boss.token), jsonBody(shape{"reason": "found again"})).empty(t, 204)
		}
		fresh := s.login(t, p)
		if s.alive(t, p.token) || !s.alive(t, fresh) {
			t.Error("the reinstatement revived an ended session, or refuses a new one")
		}
		var ended, failed int
		var logins struct {
			Items []historyItem
		}
		s.call(t, "GET", "/v1/logins", bearer(fresh)).want(t, 200).into(t, &logins)
		for _, l := range logins.Items {
			if l.Status == "revoked" && l.EndReason == "suspended" && l.EndedBy == "administrator" {
				ended++
			}
			if l.Status == "failed" && l.EndReason == "suspended" {
				failed++
			}
		}
		if ended != 2 || failed != 2 {
			t.Errorf("the history shows %d sessions ended by the suspension, and %d refused logins; want 2 and 2: %+v", ended, failed, logins)
		}
		s.call(t, "DELETE", path+"?reason=asked", bearer(boss.token)).empty(t, 204)
		s.call(t, "GET", path, bearer(boss.token)).problem(t, false, 404, "user_not_found")
		if s.alive(t, fresh) {
			t.Error("a session of a deleted user is accepted")
		}
	})
}

func TestAdmin_EndsSessionsOfOthers_ASVS_V7_4_5(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		boss, p := s.administrator(t), s.register(t)
		sub := claimsOf(t, p.token)["sub"].(string)
		one, two := s.login(t, p, header("User-Agent", "Bulk/1")), s.login(t, p, header("User-Agent", "Bulk/2"))
		oneID := s.currentID(t, one)
		type page struct {
			Items []struct {
				ID, Username string
				UserID       string `json:"user_id"`
			}
			NextCursor *string `json:"next_cursor"`
		}
		list := func(path string) (found page) {
			t.Helper()
			s.call(t, "GET", path, bearer(boss.token)).want(t, 200).into(t, &found)
			return found
		}
		for path, want := range map[string]int{
			"/v1/admin/users/" + sub + "/sessions":                       3,
			"/v1/admin/users/" + sub + "/sessions?limit=2":               2,
			"/v1/admin/users/" + sub + "/logins":                         3,
			"/v1/admin/sessions?user=" + sub:                             3,
			"/v1/admin/sessions?user=" + sub + "&user_agent=bulk":        2,
			"/v1/admin/sessions?address=127.0.0.0/8&user_agent=Bulk%2F1": 1,
			"/v1/admin/sessions?address=192.0.2.1&user_agent=Bulk%2F1":   0,
			"/v1/admin/sessions?created_before=2001-01-01T00:00:00Z":     0,
			"/v1/admin/sessions?seen_before=2001-01-01T00:00:00Z":        0,
			"/v1/admin/users?q=" + p.username:                            1,
			"/v1/admin/users?q=" + url.QueryEscape(p.email):              1,
			"/v1/admin/users?q=" + sub:                                   1,
			"/v1/admin/users?q=" + p.username[:4] + "&status=suspended":  0,
			"/v1/admin/users?role=admin&q=" + boss.username:              1,
			"/v1/admin/users?role=admin&q=" + p.username:                 0,
		} {
			if found := list(path); len(found.Items) != want {
				t.Errorf("%s: %d items, want %d", path, len(found.Items), want)
			}
		}
		if found := list("/v1/admin/sessions?user=" + sub); found.Items[0].Username != p.username || found.Items[0].UserID != sub {
			t.Errorf("a session is shown as %+v", found.Items[0])
		}
		s.call(t, "DELETE", "/v1/admin/sessions/"+oneID+"?reason=test", bearer(boss.token)).empty(t, 204)
		if s.alive(t, one) || !s.alive(t, two) {
			t.Error("one session was to end")
		}
		if h := s.history(t, two, oneID); h.Status != "revoked" || h.EndReason != "revoked_by_administrator" || h.EndedBy != "administrator" {
			t.Errorf("the login history shows %+v, want that an administrator ended it", h)
		}
		filter := shape{"user": sub, "user_agent": "bulk"}
		s.call(t, "POST", "/v1/admin/revocations", bearer(boss.token), jsonBody(shape{"filter": filter, "dry_run": true})).is(t, 200, shape{"matched": 1})
		if !s.alive(t, two) {
			t.Error("a dry run ended a session")
		}
		a := s.call(t, "POST", "/v1/admin/revocations", bearer(boss.token), jsonBody(shape{"filter": filter, "reason": "test"})).want(t, 202)
		var done struct {
			State            string
			Matched, Revoked int
			FinishedAt       *time.Time `json:"finished_at"`
		}
		await(t, "the revocation is done", func() bool {
			s.call(t, "GET", a.header.Get("Location"), bearer(boss.token)).want(t, 200).into(t, &done)
			return done.State == "done"
		})
		if done.Matched != 1 || done.Revoked != 1 || done.FinishedAt == nil || s.alive(t, two) || !s.alive(t, p.token) {
			t.Errorf("the revocation is %+v", done)
		}
		s.call(t, "DELETE", "/v1/admin/users/"+sub+"/sessions", bearer(boss.token)).is(t, 200, shape{"revoked": 1})
		if s.alive(t, p.token) {
			t.Error("a session is accepted after all were revoked")
		}
	})
}

func TestAdmin_RefusesBadInput(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		boss, p := s.administrator(t), s.register(t)
		path := "/v1/admin/users/" + claimsOf(t, p.token)["sub"].(string)
		before := s.call(t, "GET", path, bearer(boss.token)).want(t, 200)
		revocation := func(filter any) shape { return shape{"filter": filter} }
		for _, c := range []struct {
			method, path string
			body         any
			field        string
		}{
			{"GET", "/v1/admin/users?limit=101", nil, "limit"},
			{"GET", "/v1/admin/users?status=x", nil, "status"},
			{"GET", "/v1/admin/users?cursor=%25", nil, "cursor"},
			{"GET", "/v1/admin/users?stauts=active", nil, "stauts"},
			{"GET", "/v1/admin/users?q=a&q=b", nil, "q"},
			{"GET", "/v1/admin/sessions?adress=10.0.0.1", nil, "adress"},
			{"GET", "/v1/admin/sessions?address=10.0.0.1/33", nil, "address"},
			{"GET", "/v1/admin/sessions?address=::ffff:10.0.0.0/104", nil, "address"},
			{"GET", "/v1/admin/sessions?user=%00", nil, "user"},
			{"GET", "/v1/admin/sessions?created_after=yesterday", nil, "created_after"},
			{"GET", "/v1/admin/sessions?seen_before=1960-01-01T00:00:00Z", nil, "seen_before"},
			{"GET", "/v1/admin/sessions?cursor=%2A", nil, "cursor"},
			{"GET", "/v1/admin/events?after=-1", nil, "after"},
			{"GET", "/v1/admin/events?after=x", nil, "after"},
			{"GET", "/v1/admin/events?limit=0", nil, "limit"},
			{"DELETE", path + "?raeson=x", nil, "raeson"},
			{"DELETE", path + "?reason=" + strings.Repeat("x", 201), nil, "reason"},
			{"PATCH", path, shape{"roles": []string{"Admin"}}, "roles"},
			{"PATCH", path, shape{"roles": "admin"}, "roles"},
			{"PATCH", path, shape{"claims": []int{1}, "first_name": "X"}, "claims"},
			{"PATCH", path, shape{"claims": shape{"a": strings.Repeat("x", 1100)}}, "claims"},
			{"PATCH", path, shape{"first_name": "a\x00b", "roles": []string{"admin"}}, "first_name"},
			{"PATCH", path, shape{"email": "x@example.com"}, "email"},
			{"POST", "/v1/admin/users", shape{"username": "a b@c", "email": "x@example.com"}, "username"},
			{"POST", "/v1/admin/users", shape{"username": newName(), "email": "x"}, "email"},
			{"POST", "/v1/admin/users", shape{"username": newName(), "email": "x@example.com", "password": password}, "password"},
			{"POST", "/v1/admin/revocations", revocation(shape{}), "filter"},
			{"POST", "/v1/admin/revocations", revocation(nil), "filter"},
			{"POST", "/v1/admin/revocations", revocation(shape{"adress": "10.0.0.1"}), "filter"},
			{"POST", "/v1/admin/revocations", revocation(shape{"address": "x"}), "address"},
			{"POST", "/v1/admin/revocations", shape{"filter": shape{"user": "a"}, "dry_run": "yes"}, "dry_run"},
		} {
			opts := []option{bearer(boss.token)}
			if c.body != nil {
				opts = append(opts, jsonBody(c.body))
			}
			a := s.call(t, c.method, c.path, opts...).patient(t)
			if a.status != 400 || !strings.Contains(string(a.body), `"field":"`+c.field+`"`) {
				t.Errorf("%s %s %v: status %d, want 400 for %s: %s", c.method, c.path, c.body, a.status, c.field, a.body)
			}
		}
		if after := s.call(t, "GET", path, bearer(boss.token)).want(t, 200); string(after.body) != string(before.body) {
			t.Errorf("a refused request changed the user: %s", after.body)
		}
	})
}

// Everything that an operator does by the API or the command line is in the audit events.
func TestAdmin_EachActIsInTheEvents_ASVS_V16_3_2(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		boss, p, q := s.administrator(t), s.register(t), s.register(t)
		bossID, pid := claimsOf(t, boss.token)["sub"].(string), claimsOf(t, p.token)["sub"].(string)
		path := "/v1/admin/users/" + pid
		do := func(method, path string, body shape) response {
			t.Helper()
			opts := []option{bearer(boss.token)}
			if body != nil {
				opts = append(opts, jsonBody(body))
			}
			a := s.call(t, method, path, opts...).patient(t)
			if a.status >= 300 {
				t.Fatalf("%s %s: %s", method, path, a.body)
			}
			return a
		}
		one := s.currentID(t, s.login(t, p))
		do("PATCH", path, shape{"first_name": "Ada", "roles": []string{"reader"}, "claims": shape{"x": 1}, "reason": "r1"})
		do("POST", path+"/password-reset", shape{"reason": "r2"})
		do("DELETE", "/v1/admin/sessions/"+one+"?reason=r3", nil)
		do("DELETE", path+"/sessions?reason=r4", nil)
		do("POST", path+"/suspend", shape{"reason": "r5"})
		do("POST", path+"/reinstate", shape{"reason": "r6"})
		bulk := do("POST", "/v1/admin/revocations", shape{"filter": shape{"user": pid}, "reason": "r7"}).text(t, "id")
		do("DELETE", path+"?reason=r8", nil)

		s.mustOperate(t, "admin", "users", "suspend", q.username, "--yes", "--reason", "c1")
		s.mustOperate(t, "admin", "users", "reinstate", q.username, "--reason", "c2")
		s.mustOperate(t, "admin", "users", "password-reset", q.username, "--reason", "c3")
		s.mustOperate(t, "admin", "users", "create", "--username", newName(), "--email", newName()+"@example.com", "--reason", "c4")
		s.login(t, q)
		s.mustOperate(t, "admin", "sessions", "revoke", "--user", q.username, "--yes", "--reason", "c5")
		s.mustOperate(t, "admin", "users", "delete", q.username, "--yes", "--reason", "c6")
		s.mustOperate(t, "clients", "add", "--id", "x", "--reason", "c7")
		s.mustOperate(t, "clients", "rotate", "--id", "x", "--reason", "c8")
		s.mustOperate(t, "clients", "revoke", "--id", "x", "--reason", "c9")

		type event struct {
			Number                                                    int64
			Type, Actor, Address, Detail, Before, After, Reason, Hash string
			By                                                        string `json:"actor_id"`
		}
		want := map[string]string{
			"r1": "user.profile_changed user.roles_changed user.claims_changed", "r2": "mail.requested", "r3": "session.ended", "r4": "sessions.ended",
			"r5": "user.suspended", "r6": "user.reinstated", "r7": "revocation.requested revocation.finished", "r8": "user.deleted",
			"c1": "user.suspended sessions.ended", "c2": "user.reinstated", "c3": "mail.requested", "c4": "user.registered",
			"c5": "revocation.requested session.ended revocation.finished", "c6": "user.deleted",
			"c7": "client.added", "c8": "client.rotated", "c9": "client.revoked",
		}
		got := map[string]string{}
		var all []event
		await(t, "all acts are in the events", func() bool {
			clear(got)
			all = nil
			for after := ""; ; {
				var page struct {
					Items      []event
					NextCursor *string `json:"next_cursor"`
				}
				s.call(t, "GET", "/v1/admin/events?limit=20&after="+after, bearer(boss.token)).want(t, 200).into(t, &page)
				all = append(all, page.Items...)
				if page.NextCursor == nil {
					break
				}
				after = *page.NextCursor
			}
			for _, e := range all {
				if e.Reason != "" {
					got[e.Reason] = strings.TrimSpace(got[e.Reason] + " " + e.Type)
				}
			}
			return len(got) == len(want) && strings.HasSuffix(got["r7"], "finished")
		})
		for reason, types := range want {
			if got[reason] != types {
				t.Errorf("the events of %s are %q, want %q", reason, got[reason], types)
			}
		}
		for i, e := range all {
			if e.Number != int64(i)+1 || len(e.Hash) != 64 {
				t.Errorf("event %d has the number %d and the hash %q", i+1, e.Number, e.Hash)
			}
			switch {
			case strings.HasPrefix(e.Reason, "r"):
				if e.Actor != "administrator" || e.By != bossID || e.Address != "127.0.0.1" {
					t.Errorf("the event does not say who acted from where: %+v", e)
				}
			case strings.HasPrefix(e.Reason, "c"):
				if e.Actor != "command" || e.By == "" {
					t.Errorf("the event does not say that a command acted: %+v", e)
				}
			}
		}
		var done struct{ State string }
		s.call(t, "GET", "/v1/admin/revocations/"+bulk, bearer(boss.token)).want(t, 200).into(t, &done)
		if done.State != "done" {
			t.Errorf("the revocation is %s", done.State)
		}
		if out := s.mustOperate(t, "admin", "events", "verify"); !strings.Contains(out, "as they were recorded") {
			t.Errorf("verify prints %q", out)
		}
		if out := s.mustOperate(t, "admin", "events", "list", "--type", "user.suspended", "--json"); strings.Count(out, "\n") != 2 {
			t.Errorf("two suspensions are listed as %q", out)
		}
		if out := s.mustOperate(t, "admin", "events", "list", "--user", pid); !strings.Contains(out, "administrator "+bossID) {
			t.Errorf("the events about a user are listed as %q", out)
		}
		if out := s.mustOperate(t, "admin", "stats", "--json"); !strings.Contains(out, `"events"`) {
			t.Errorf("stats prints %q", out)
		}
	})
}
