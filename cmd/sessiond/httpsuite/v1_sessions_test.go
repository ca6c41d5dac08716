package httpsuite

import (
	"encoding/base64"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

// sessionShape is the JSON of a session in responses of /v1.
func sessionShape(id any, current bool) shape {
	return shape{
		"id": id, "ip_address": "127.0.0.1", "device": anyText, "user_agent": anyText,
		"created_at": aTime, "last_seen_at": aTime, "expires_at": aTime, "current": current,
	}
}

// newSession signs in by POST /v1/sessions.
func (s *service) newSession(t testing.TB, login, password string, opts ...option) response {
	t.Helper()
	return s.call(t, "POST", "/v1/sessions", append([]option{jsonBody(shape{"login": login, "password": password})}, opts...)...)
}

func v1LoginAndLogout(t *testing.T, s *service) {
	p := s.register(t)
	a := s.newSession(t, p.username, password, header("User-Agent", chrome))
	want := sessionShape(anID, true)
	want["device"], want["user_agent"] = "Chrome on macOS", chrome
	a.is(t, 201, shape{"access_token": aJWT, "token_type": "Bearer", "expires_in": 3600, "refresh_token": aText, "session": want})
	token := a.text(t, "access_token")
	want["id"] = a.text(t, "session.id")
	s.call(t, "GET", "/v1/sessions/current", bearer(token)).is(t, 200, want)

	wrong := s.newSession(t, p.email, "wrong passphrase")
	wrong.problem(t, false, 401, "invalid_credentials")
	sameResponse(t, "an unknown address and a wrong password", s.newSession(t, "x"+p.email, password), wrong)
	s.call(t, "POST", "/v1/sessions", jsonBody(shape{})).problem(t, false, 400, "invalid_request", "login", "password")
	s.call(t, "POST", "/v1/sessions", credentials(p.username, password)).problem(t, false, 400, "invalid_request", "username")

	s.call(t, "DELETE", "/v1/sessions/current", bearer(token)).empty(t, 204)
	if s.alive(t, token) || !s.alive(t, p.token) {
		t.Error("a logout must revoke the current session and no other")
	}
	s.call(t, "DELETE", "/v1/sessions/current", bearer(token)).problem(t, false, 401, "invalid_token")
}

// sessionPage is one page of the list of sessions or of the login history.
type sessionPage struct {
	Items []struct {
		ID        string    `json:"id"`
		CreatedAt time.Time `json:"created_at"`
		Current   bool      `json:"current"`
	} `json:"items"`
	NextCursor *string `json:"next_cursor"`
}

// v1Pages checks that pages of sessions and logins are sorted from the newest to the oldest. A
// login between the requests for two pages must not change the second page.
func v1Pages(t *testing.T, s *service) {
	p := s.register(t)
	want := []string{s.currentID(t, p.token)}
	for range 4 {
		want = append(want, s.newSession(t, p.username, password).want(t, 201).text(t, "session.id"))
	}
	slices.Reverse(want)
	for _, path := range []string{"/v1/sessions", "/v1/logins"} {
		var got []string
		var sizes []int
		last := time.Now().Add(time.Hour)
		query := "?limit=2"
		for {
			var page sessionPage
			s.call(t, "GET", path+query, bearer(p.token)).want(t, 200).into(t, &page)
			sizes = append(sizes, len(page.Items))
			for _, item := range page.Items {
				got = append(got, item.ID)
				if item.CreatedAt.After(last) {
					t.Errorf("%s is not sorted from the newest to the oldest", path)
				}
				last = item.CreatedAt
				if item.Current != (item.ID == want[4]) {
					t.Errorf("%s: current is %v for %s", path, item.Current, item.ID)
				}
			}
			if page.NextCursor == nil || len(sizes) > 5 {
				break
			}
			query = "?limit=2&cursor=" + *page.NextCursor
			if len(sizes) == 1 && path == "/v1/logins" {
				s.newSession(t, p.username, password).want(t, 201)
			}
		}
		if !slices.Equal(got, want) || !slices.Equal(sizes, []int{2, 2, 1}) {
			t.Errorf("%s: pages of sizes %v have\n%v, want\n%v", path, sizes, got, want)
		}
	}
	a := s.call(t, "GET", "/v1/sessions?limit=1", bearer(p.token))
	a.is(t, 200, shape{"items": []any{sessionShape(anID, false)}, "next_cursor": aText})
	var all sessionPage
	s.call(t, "GET", "/v1/sessions", bearer(p.token)).want(t, 200).into(t, &all)
	if len(all.Items) != 6 || all.NextCursor != nil {
		t.Errorf("got %d sessions and next_cursor %v, want 6 and null", len(all.Items), all.NextCursor)
	}
	for _, path := range []string{"/v1/sessions", "/v1/logins"} {
		for query, field := range map[string]string{
			"limit=0": "limit", "limit=101": "limit", "limit=-1": "limit", "limit=x": "limit", "limit=": "limit", "limit=1e1": "limit",
			"limit=99999999999999999999": "limit", "limit=1&limit=2": "limit", "cursor=nonsense!": "cursor", "cursor=": "cursor", "cursor=%00": "cursor",
		} {
			s.call(t, "GET", path+"?"+query, bearer(p.token)).problem(t, false, 400, "invalid_request", field)
		}
		// A user who sends the cursor of another user must not see the other user's sessions.
		var page sessionPage
		q := s.register(t)
		s.call(t, "GET", path+"?limit=1&cursor="+url64(want[0]), bearer(q.token)).want(t, 200).into(t, &page)
		if len(page.Items) != 0 {
			t.Errorf("the cursor of another user shows %v", page.Items)
		}
	}
}

// url64 encodes the id of a session as a cursor.
func url64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func v1RevokeSessions(t *testing.T, s *service) {
	p, q := s.register(t), s.register(t)
	tokens := map[string]string{}
	for _, name := range []string{"a", "b", "c"} {
		tokens[name] = s.login(t, p)
	}
	a := s.currentID(t, tokens["a"])
	revoke := func(path string) response { return s.call(t, "DELETE", "/v1/sessions"+path, bearer(p.token)) }
	revoke("/"+a).empty(t, 204)
	revoke("/"+a).empty(t, 204)
	if s.alive(t, tokens["a"]) || !s.alive(t, tokens["b"]) {
		t.Error("revoking one session must revoke that session and no other")
	}
	theirs := revoke("/" + s.currentID(t, q.token))
	theirs.problem(t, false, 404, "session_not_found")
	sameResponse(t, "a session of another user and an unknown one", theirs, revoke("/"+issuer.NewTimedID(time.Now())))
	sameResponse(t, "a session of another user and a malformed id", theirs, revoke("/%20%00'"))
	if !s.alive(t, q.token) {
		t.Error("the session of another user was revoked")
	}

	// A misspelled ?except=current must not revoke the current session.
	for _, query := range []string{
		"?except=me", "?except=", "?except=Current", "?Except=current", "?expect=current", "?except=current&x=1", "?except=current&except=current", "?x",
		"?except=%00", "?%",
	} {
		if got := revoke(query); got.status != 400 {
			t.Errorf("DELETE /v1/sessions%s: status %d, want 400", query, got.status)
		}
	}
	if !s.alive(t, p.token) || !s.alive(t, tokens["b"]) {
		t.Error("a refused request revoked a session")
	}
	revoke("?except=current").is(t, 200, shape{"revoked": 2})
	revoke("?except=current").is(t, 200, shape{"revoked": 0})
	if s.alive(t, tokens["b"]) || s.alive(t, tokens["c"]) || !s.alive(t, p.token) {
		t.Error("revoking the other sessions must keep the current one and no other")
	}
	s.refreshed(t, p.refresh, 200)
	again := s.login(t, p)
	revoke("").is(t, 200, shape{"revoked": 2})
	if s.alive(t, p.token) || s.alive(t, again) {
		t.Error("a session is accepted after the user has revoked all sessions")
	}
	s.refreshed(t, p.refresh, 400)
	s.login(t, p)
}

// v1History checks that the login history lists every login. For each ended session it must say why
// the session ended and who ended it.
func v1History(t *testing.T, s *service) {
	p := s.register(t)
	want := map[string]historyItem{}
	login := func(status, reason, by string) (token, id string) {
		a := s.newSession(t, p.username, password).want(t, 201)
		token, id = a.text(t, "access_token"), a.text(t, "session.id")
		want[id] = historyItem{ID: id, Status: status, EndReason: reason, EndedBy: by}
		return token, id
	}
	token, _ := login("logged_out", "logout", "user")
	s.call(t, "DELETE", "/logout", bearer(token)).want(t, 200)
	token, id := login("logged_out", "logout", "user")
	s.call(t, "DELETE", "/v1/sessions/"+id, bearer(token)).want(t, 204)
	_, id = login("revoked", "revoked", "user")
	s.call(t, "DELETE", "/v1/sessions/"+id, bearer(p.token)).want(t, 204)
	login("revoked", "revoked_others", "user")
	s.call(t, "DELETE", "/v1/sessions?except=current", bearer(p.token)).want(t, 200)
	login("revoked", "password_changed", "user")
	s.call(t, "PUT", "/updatePassword", bearer(p.token), credentials(p.username, password)).want(t, 200)
	token, _ = login("revoked", "revoked_all", "user")
	first := s.currentID(t, p.token)
	want[first] = historyItem{ID: first, Status: "revoked", EndReason: "revoked_all", EndedBy: "user"}
	s.call(t, "GET", "/user/logins/deletes/all", bearer(token)).want(t, 200)
	token, _ = login("active", "", "")

	for range 2 {
		s.newSession(t, p.username, "wrong passphrase", header("User-Agent", firefox)).want(t, 401)
	}
	s.call(t, "POST", "/loginUser", credentials(p.username, "wrong passphrase")).want(t, 403)
	s.call(t, "POST", "/v1/sessions/current/reauthenticate", bearer(token), jsonBody(shape{"password": "wrong passphrase"})).problem(t, false, 403, "invalid_credentials")
	const failures = 4

	a := s.call(t, "GET", "/v1/logins?limit=100", bearer(token)).want(t, 200)
	var history struct {
		Items []struct {
			historyItem
			CreatedAt time.Time `json:"created_at"`
			Device    string    `json:"device"`
			UserAgent string    `json:"user_agent"`
		}
	}
	a.into(t, &history)
	if got := len(history.Items); got != len(want)+failures {
		t.Errorf("the login history lists %d logins, want %d", got, len(want)+failures)
	}
	failed := 0
	for _, got := range history.Items {
		if got.Status == "failed" {
			failed++
			if got.EndReason != "wrong_password" || got.EndedAt == nil || got.ID == "" {
				t.Errorf("the failed login is %+v", got)
			}
			if failed > 2 && (got.Device != "Firefox on Windows" || got.UserAgent != "") {
				t.Errorf("the failed login is shown as %+v, want its device and no user agent", got)
			}
			continue
		}
		w := want[got.ID]
		if ended := got.EndedAt != nil; ended != (w.Status != "active") || ended && got.EndedAt.Before(got.CreatedAt) {
			t.Errorf("login %s has ended_at %v and status %s", got.ID, got.EndedAt, w.Status)
		}
		got.EndedAt = nil
		if got.historyItem != w {
			t.Errorf("the login history shows %+v, want %+v", got.historyItem, w)
		}
	}
	if failed != failures {
		t.Errorf("%d failed logins, want %d", failed, failures)
	}
	var raw struct{ Items []any }
	a.into(t, &raw)
	for i, item := range raw.Items {
		status := item.(map[string]any)["status"]
		want := sessionShape(anID, status == "active")
		want["status"], want["ended_at"], want["end_reason"], want["ended_by"] = status, aTime, aText, aText
		if status == "active" {
			want["ended_at"], want["end_reason"] = nil, nil
		}
		if status == "active" || status == "failed" {
			want["ended_by"] = nil
		}
		compare(t, fmt.Sprintf("items[%d]", i), want, item)
	}
}

// listed reports whether the list of active sessions contains the session with this id.
func (s *service) listed(t *testing.T, token, id string) bool {
	t.Helper()
	var body struct{ Items []struct{ ID string } }
	s.call(t, "GET", "/v1/sessions?limit=100", bearer(token)).want(t, 200).into(t, &body)
	return slices.ContainsFunc(body.Items, func(i struct{ ID string }) bool { return i.ID == id })
}

// historyItem is one login in the JSON of the login history.
type historyItem struct {
	ID        string     `json:"id"`
	Status    string     `json:"status"`
	EndedAt   *time.Time `json:"ended_at"`
	EndReason string     `json:"end_reason"`
	EndedBy   string     `json:"ended_by"`
}

// history returns what the login history shows for the session with this id.
func (s *service) history(t *testing.T, token, id string) historyItem {
	t.Helper()
	var body struct{ Items []historyItem }
	s.call(t, "GET", "/v1/logins?limit=100", bearer(token)).want(t, 200).into(t, &body)
	i := slices.IndexFunc(body.Items, func(i historyItem) bool { return i.ID == id })
	if i < 0 {
		t.Fatalf("session %s is not in the history", id)
	}
	return body.Items[i]
}
