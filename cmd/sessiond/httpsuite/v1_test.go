package httpsuite

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
	"github.com/sessiond/sessiond/session/issuer"
)

const (
	chrome  = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"
	firefox = "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0"
)

func freshName() string { return "n" + strings.ToLower(issuer.NewID()[:10]) }

func sessionShape(id any, current bool) shape {
	return shape{
		"id": id, "ip_address": "127.0.0.1", "device": anyText, "user_agent": anyText,
		"created_at": aTime, "last_seen_at": aTime, "expires_at": aTime, "current": current,
	}
}

func userShape(p person, verified bool) shape {
	return shape{
		"id": anID, "username": p.username, "email": p.email, "email_verified": verified,
		"first_name": "", "last_name": "", "created_at": aTime,
	}
}

// newSession signs in by POST /v1/sessions.
func (s *service) newSession(t testing.TB, login, password string, opts ...option) answer {
	t.Helper()
	return s.call(t, "POST", "/v1/sessions", append([]option{jsonBody(shape{"login": login, "password": password})}, opts...)...)
}

func TestV1(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		for name, test := range map[string]func(*testing.T, *service){
			"registration": v1Registration, "me": v1Me, "deletion": v1Deletion, "password": v1Password, "sessions": v1Sessions,
			"pages": v1Pages, "ending": v1Ending, "history": v1History, "resets": v1Resets, "rotation": v1Rotation,
			"oauth errors": v1OAuthErrors, "revocation": v1Revocation, "token": v1Token, "documents": v1Documents,
		} {
			t.Run(name, func(t *testing.T) { test(t, s) })
		}
	})
}

// A taken address and a free one get the same answer; only the mail differs.
func v1Registration(t *testing.T, s *service) {
	name := freshName()
	email := name + "@example.com"
	register := func(username, email string) answer {
		return s.call(t, "POST", "/v1/users", jsonBody(shape{"username": username, "email": email, "password": password, "first_name": "Ada"}))
	}
	free := register(name, email).is(t, 202, messageShape)
	refused := s.newSession(t, name, password)
	refused.problem(t, false, 401, "invalid_credentials")
	sameAnswer(t, "a name that waits for its mail and a wrong password", refused, s.newSession(t, freshName(), password))

	token := verifyLink.FindStringSubmatch(s.awaitMail(t, email, "#token=").Text)[1]
	verify := func(token string) answer {
		return s.call(t, "POST", "/v1/users/verify", jsonBody(shape{"token": token}))
	}
	if got := verify("A"+token).want(t, 404).header.Get("Content-Type"); got != "application/problem+json; charset=utf-8" {
		t.Errorf("Content-Type is %q", got)
	}
	verify(token).empty(t, 204)
	verify(token).want(t, 404)
	verify("").problem(t, false, 400, "invalid_request", "token")

	access := s.newSession(t, strings.ToUpper(email), password).want(t, 201).text(t, "access_token")
	want := userShape(person{username: name, email: email}, true)
	want["first_name"] = "Ada"
	s.call(t, "GET", "/v1/users/me", bearerOf(access)).is(t, 200, want)

	sameAnswer(t, "a taken and a free address", register(freshName(), strings.ToUpper(email)), free)
	s.awaitMail(t, email, "already have")
	register(strings.ToUpper(name), "x"+email).problem(t, false, 409, "username_taken")
	s.call(t, "POST", "/v1/users", jsonBody(shape{})).problem(t, false, 400, "invalid_request", "username", "email", "password")
}

func v1Me(t *testing.T, s *service) {
	p, q := s.register(t), s.register(t)
	s.call(t, "GET", "/v1/users/me", bearerOf(p.token)).is(t, 200, userShape(p, false))
	patch := func(body any) answer { return s.call(t, "PATCH", "/v1/users/me", bearerOf(p.token), jsonBody(body)) }

	want := userShape(p, false)
	want["first_name"] = "Žofie 👩‍💻"
	patch(shape{"first_name": "Žofie 👩‍💻"}).is(t, 200, want)
	patch(shape{}).is(t, 200, want)
	want["email"] = "new-" + p.email
	patch(shape{"email": "new-" + p.email}).is(t, 200, want)
	s.awaitMail(t, p.email, "another address")
	s.call(t, "GET", "/v1/users/me", bearerOf(p.token)).is(t, 200, want)

	patch(shape{"email": strings.ToUpper(q.email)}).problem(t, false, 409, "email_taken")
	patch(shape{"email": "nonsense", "first_name": strings.Repeat("x", 201)}).problem(t, false, 400, "invalid_request", "first_name", "email")
	patch(shape{"username": q.username}).problem(t, false, 400, "invalid_request", "username")
	s.call(t, "GET", "/v1/users/me", bearerOf(p.token)).is(t, 200, want)
}

func v1Deletion(t *testing.T, s *service) {
	p := s.register(t)
	second := s.login(t, p)
	s.call(t, "DELETE", "/v1/users/me", bearerOf(p.token)).empty(t, 204)
	if s.alive(t, p.token) || s.alive(t, second) {
		t.Error("a deleted user is signed in")
	}
	s.refreshed(t, p.refresh, 400)
	s.newSession(t, p.username, password).problem(t, false, 401, "invalid_credentials")
	s.awaitMail(t, p.email, "was deleted")
}

func v1Password(t *testing.T, s *service) {
	p := s.register(t)
	second := s.login(t, p)
	change := func(body any) answer {
		return s.call(t, "PUT", "/v1/users/me/password", bearerOf(p.token), jsonBody(body))
	}
	change(shape{"current_password": "wrong passphrase", "new_password": goodPassword}).problem(t, false, 403, "invalid_credentials")
	change(shape{}).problem(t, false, 400, "invalid_request", "current_password", "new_password")
	change(shape{"new_password": goodPassword}).problem(t, false, 400, "invalid_request", "current_password")
	change(shape{"current_password": password, "new_password": "kX9#vQ2"}).problem(t, false, 400, "invalid_request", "new_password")
	change(shape{"current_password": password, "new_password": "password1"}).problem(t, false, 400, "invalid_request", "new_password")
	if !s.alive(t, second) {
		t.Error("a password that was not changed ended a session")
	}
	change(shape{"current_password": password, "new_password": goodPassword}).empty(t, 204)
	if s.alive(t, second) || !s.alive(t, p.token) {
		t.Error("a change of password ends every other session, and only those")
	}
	s.refreshed(t, p.refresh, 200)
	s.newSession(t, p.username, password).problem(t, false, 401, "invalid_credentials")
	s.newSession(t, p.username, goodPassword).want(t, 201)
	s.awaitMail(t, p.email, "password was changed")
}

func v1Sessions(t *testing.T, s *service) {
	p := s.register(t)
	a := s.newSession(t, p.username, password, header("User-Agent", chrome))
	want := sessionShape(anID, true)
	want["device"], want["user_agent"] = "Chrome on macOS", chrome
	a.is(t, 201, shape{"access_token": aJWT, "token_type": "Bearer", "expires_in": 3600, "refresh_token": aText, "session": want})
	token := a.text(t, "access_token")
	want["id"] = a.text(t, "session.id")
	s.call(t, "GET", "/v1/sessions/current", bearerOf(token)).is(t, 200, want)

	wrong := s.newSession(t, p.email, "wrong passphrase")
	wrong.problem(t, false, 401, "invalid_credentials")
	sameAnswer(t, "an unknown address and a wrong password", s.newSession(t, "x"+p.email, password), wrong)
	s.call(t, "POST", "/v1/sessions", jsonBody(shape{})).problem(t, false, 400, "invalid_request", "login", "password")
	s.call(t, "POST", "/v1/sessions", jsonBody(shape{"username": p.username, "password": password})).problem(t, false, 400, "invalid_request", "username")

	s.call(t, "DELETE", "/v1/sessions/current", bearerOf(token)).empty(t, 204)
	if s.alive(t, token) || !s.alive(t, p.token) {
		t.Error("logging out ends the current session, and only that")
	}
	s.call(t, "DELETE", "/v1/sessions/current", bearerOf(token)).problem(t, false, 401, "invalid_token")
}

type sessionPage struct {
	Items []struct {
		ID        string    `json:"id"`
		CreatedAt time.Time `json:"created_at"`
		Current   bool      `json:"current"`
	} `json:"items"`
	NextCursor *string `json:"next_cursor"`
}

// Pages are newest first, and somebody who signs in meanwhile shifts nothing.
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
			s.call(t, "GET", path+query, bearerOf(p.token)).want(t, 200).into(t, &page)
			sizes = append(sizes, len(page.Items))
			for _, item := range page.Items {
				got = append(got, item.ID)
				if item.CreatedAt.After(last) {
					t.Errorf("%s is not newest first", path)
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
			t.Errorf("%s: pages of %v hold\n%v, want\n%v", path, sizes, got, want)
		}
	}
	a := s.call(t, "GET", "/v1/sessions?limit=1", bearerOf(p.token))
	a.is(t, 200, shape{"items": []any{sessionShape(anID, false)}, "next_cursor": aText})
	var all sessionPage
	s.call(t, "GET", "/v1/sessions", bearerOf(p.token)).want(t, 200).into(t, &all)
	if len(all.Items) != 6 || all.NextCursor != nil {
		t.Errorf("%d sessions, next %v", len(all.Items), all.NextCursor)
	}
	for _, path := range []string{"/v1/sessions", "/v1/logins"} {
		for query, field := range map[string]string{
			"limit=0": "limit", "limit=101": "limit", "limit=-1": "limit", "limit=x": "limit", "limit=": "limit", "limit=1e1": "limit",
			"limit=99999999999999999999": "limit", "limit=1&limit=2": "limit", "cursor=nonsense!": "cursor", "cursor=": "cursor", "cursor=%00": "cursor",
		} {
			s.call(t, "GET", path+"?"+query, bearerOf(p.token)).problem(t, false, 400, "invalid_request", field)
		}
		// Another user's cursor is only a place in time.
		var page sessionPage
		q := s.register(t)
		s.call(t, "GET", path+"?limit=1&cursor="+url64(want[0]), bearerOf(q.token)).want(t, 200).into(t, &page)
		if len(page.Items) != 0 {
			t.Errorf("another user's cursor shows %v", page.Items)
		}
	}
}

func url64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func v1Ending(t *testing.T, s *service) {
	p, q := s.register(t), s.register(t)
	tokens := map[string]string{}
	for _, name := range []string{"a", "b", "c"} {
		tokens[name] = s.login(t, p)
	}
	a := s.currentID(t, tokens["a"])
	end := func(path string) answer { return s.call(t, "DELETE", "/v1/sessions"+path, bearerOf(p.token)) }
	end("/"+a).empty(t, 204)
	end("/"+a).empty(t, 204)
	if s.alive(t, tokens["a"]) || !s.alive(t, tokens["b"]) {
		t.Error("ending one session ends that one")
	}
	theirs := end("/" + s.currentID(t, q.token))
	theirs.problem(t, false, 404, "session_not_found")
	sameAnswer(t, "another user's session and none", theirs, end("/"+issuer.NewTimedID(time.Now())))
	sameAnswer(t, "another user's session and nonsense", theirs, end("/%20%00'"))
	if !s.alive(t, q.token) {
		t.Error("another user's session was ended")
	}

	// A misspelt query must not end the current session.
	for _, query := range []string{
		"?except=me", "?except=", "?except=Current", "?Except=current", "?expect=current", "?except=current&x=1", "?except=current&except=current", "?x",
		"?except=%00", "?%",
	} {
		if got := end(query); got.status != 400 {
			t.Errorf("DELETE /v1/sessions%s: status %d", query, got.status)
		}
	}
	if !s.alive(t, p.token) || !s.alive(t, tokens["b"]) {
		t.Error("a query that was refused ended a session")
	}
	end("?except=current").is(t, 200, shape{"revoked": 2})
	end("?except=current").is(t, 200, shape{"revoked": 0})
	if s.alive(t, tokens["b"]) || s.alive(t, tokens["c"]) || !s.alive(t, p.token) {
		t.Error("ending the others ends those, and only those")
	}
	s.refreshed(t, p.refresh, 200)
	again := s.login(t, p)
	end("").is(t, 200, shape{"revoked": 2})
	if s.alive(t, p.token) || s.alive(t, again) {
		t.Error("ending all ends all")
	}
	s.refreshed(t, p.refresh, 400)
	s.login(t, p)
}

// The history is complete and says why and by whom everything ended.
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
	s.call(t, "DELETE", "/logout", bearerOf(token)).want(t, 200)
	token, id := login("logged_out", "logout", "user")
	s.call(t, "DELETE", "/v1/sessions/"+id, bearerOf(token)).want(t, 204)
	_, id = login("revoked", "revoked", "user")
	s.call(t, "DELETE", "/v1/sessions/"+id, bearerOf(p.token)).want(t, 204)
	login("revoked", "revoked_others", "user")
	s.call(t, "DELETE", "/v1/sessions?except=current", bearerOf(p.token)).want(t, 200)
	login("revoked", "password_changed", "user")
	s.call(t, "PUT", "/updatePassword", bearerOf(p.token), jsonBody(shape{"username": p.username, "password": password})).want(t, 200)
	token, _ = login("revoked", "revoked_all", "user")
	first := s.currentID(t, p.token)
	want[first] = historyItem{ID: first, Status: "revoked", EndReason: "revoked_all", EndedBy: "user"}
	s.call(t, "GET", "/user/logins/deletes/all", bearerOf(token)).want(t, 200)
	token, _ = login("active", "", "")

	for range 2 {
		s.newSession(t, p.username, "wrong passphrase", header("User-Agent", firefox)).want(t, 401)
	}
	s.call(t, "POST", "/loginUser", jsonBody(shape{"username": p.username, "password": "wrong passphrase"})).want(t, 403)
	s.call(t, "POST", "/v1/sessions/current/reauthenticate", bearerOf(token), jsonBody(shape{"password": "wrong passphrase"})).problem(t, false, 403, "invalid_credentials")
	const failures = 4

	a := s.call(t, "GET", "/v1/logins?limit=100", bearerOf(token)).want(t, 200)
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
		t.Errorf("the history has %d logins, want %d", got, len(want)+failures)
	}
	failed := 0
	for _, got := range history.Items {
		if got.Status == "failed" {
			failed++
			if got.EndReason != "wrong_password" || got.EndedAt == nil || got.ID == "" {
				t.Errorf("a failed login reads %+v", got)
			}
			if failed > 2 && (got.Device != "Firefox on Windows" || got.UserAgent != firefox) {
				t.Errorf("a failed login does not say from where: %+v", got)
			}
			continue
		}
		w := want[got.ID]
		if ended := got.EndedAt != nil; ended != (w.Status != "active") || ended && got.EndedAt.Before(got.CreatedAt) {
			t.Errorf("%s ended at %v and is %s", got.ID, got.EndedAt, w.Status)
		}
		got.EndedAt = nil
		if got.historyItem != w {
			t.Errorf("history says %+v, want %+v", got.historyItem, w)
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

func v1Resets(t *testing.T, s *service) {
	p := s.register(t)
	ask := func(email string) answer {
		return s.call(t, "POST", "/v1/password-resets", jsonBody(shape{"email": email}))
	}
	known := ask(p.email).is(t, 202, messageShape)
	sameAnswer(t, "an unknown and a known address", ask("nobody-"+p.email), known)
	ask("").problem(t, false, 400, "invalid_request", "email")
	ask("nonsense").problem(t, false, 400, "invalid_request", "email")

	token := resetLink.FindStringSubmatch(s.awaitMail(t, p.email, "resetPasswordToken=").Text)[1]
	check := func(token string) answer {
		return s.call(t, "POST", "/v1/password-resets/check", jsonBody(shape{"token": token}))
	}
	complete := func(token, password string) answer {
		return s.call(t, "POST", "/v1/password-resets/complete", jsonBody(shape{"token": token, "password": password}))
	}
	check(token).empty(t, 204)
	check(token).empty(t, 204)
	check("A"+token).want(t, 404)
	check("").problem(t, false, 400, "invalid_request", "token")
	complete("A"+token, goodPassword).want(t, 404)
	complete(token, "kX9#vQ2").problem(t, false, 400, "invalid_request", "password")
	complete("", "").problem(t, false, 400, "invalid_request", "token", "password")
	if !s.alive(t, p.token) {
		t.Error("a reset that was not completed ended a session")
	}
	complete(token, goodPassword).empty(t, 204)
	complete(token, password).want(t, 404)
	check(token).want(t, 404)
	if s.alive(t, p.token) {
		t.Error("a reset left a session")
	}
	s.refreshed(t, p.refresh, 400)
	s.newSession(t, p.username, password).want(t, 401)
	fresh := s.newSession(t, p.username, goodPassword).want(t, 201).text(t, "access_token")
	var history struct{ Items []historyItem }
	s.call(t, "GET", "/v1/logins", bearerOf(fresh)).want(t, 200).into(t, &history)
	if oldest := history.Items[len(history.Items)-1]; oldest.Status != "revoked" || oldest.EndReason != "password_reset" {
		t.Errorf("history says %+v", oldest)
	}
}

// oauthError fails the test unless the answer is one of RFC 6749 section 5.2.
func (a answer) oauthError(t testing.TB, status int, code string) {
	t.Helper()
	a.is(t, status, shape{"error": code, "error_description": aText})
	if a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control is %q", a.header.Get("Cache-Control"))
	}
}

// Each refresh token is good once; the one before gets the same successor for
// a while, and an older one gives a thief away.
func v1Rotation(t *testing.T, s *service) {
	p := s.register(t)
	id := s.currentID(t, p.token)
	refresh := func(token string) answer {
		return s.call(t, "POST", "/oauth/token", formBody("grant_type", "refresh_token", "refresh_token", token, "scope", "unknown parameters are skipped"))
	}
	a := refresh(p.refresh).is(t, 200, shape{"access_token": aJWT, "token_type": "Bearer", "expires_in": 3600, "refresh_token": aText})
	first, access := a.text(t, "refresh_token"), a.text(t, "access_token")
	if first == p.refresh || access == p.token {
		t.Error("the new pair is the old one")
	}
	if a := refresh(p.refresh).want(t, 200); a.text(t, "refresh_token") != first {
		t.Error("asking again gave another successor")
	}
	if !s.alive(t, p.token) || !s.alive(t, access) {
		t.Error("a refresh ended an access token")
	}
	if claimsOf(t, access)["sid"] != id || claimsOf(t, access)["auth_time"] != claimsOf(t, p.token)["auth_time"] {
		t.Error("a refresh is the same session, and no proof of identity")
	}
	second := refresh(first).want(t, 200).text(t, "refresh_token")

	other := s.login(t, p)
	refresh(p.refresh).oauthError(t, 400, "invalid_grant")
	for name, token := range map[string]string{"the first": p.token, "the second": access} {
		if s.alive(t, token) {
			t.Errorf("%s access token of a stolen session is accepted", name)
		}
	}
	refresh(second).oauthError(t, 400, "invalid_grant")
	refresh(first).oauthError(t, 400, "invalid_grant")
	if !s.alive(t, other) {
		t.Error("a theft ended another session")
	}
	if h := s.history(t, other, id); h.Status != "revoked" || h.EndReason != "token_theft" || h.EndedBy != "system" {
		t.Errorf("history says %+v", h)
	}
	s.awaitMail(t, p.email, "signed you out")
}

func v1OAuthErrors(t *testing.T, s *service) {
	p := s.register(t)
	token := func(opts ...option) answer { return s.call(t, "POST", "/oauth/token", opts...) }
	token(formBody()).oauthError(t, 400, "invalid_request")
	token(formBody("refresh_token", p.refresh)).oauthError(t, 400, "invalid_request")
	token(formBody("grant_type", "refresh_token")).oauthError(t, 400, "invalid_request")
	token(formBody("grant_type", "refresh_token", "refresh_token", p.refresh, "refresh_token", p.refresh)).oauthError(t, 400, "invalid_request")
	token(formBody("grant_type", "password", "username", p.username, "password", password)).oauthError(t, 400, "unsupported_grant_type")
	token(formBody("grant_type", "refresh_token", "refresh_token", "nonsense")).oauthError(t, 400, "invalid_grant")
	token(formBody("grant_type", "refresh_token", "refresh_token", p.token)).oauthError(t, 400, "invalid_grant")
	token(formBody("grant_type", "refresh_token", "refresh_token", strings.Repeat("A", len(p.refresh)))).oauthError(t, 400, "invalid_grant")
	token(rawBody("application/x-www-form-urlencoded", []byte("grant_type=%zz"))).oauthError(t, 400, "invalid_request")
	token(jsonBody(shape{"grant_type": "refresh_token", "refresh_token": p.refresh})).oauthError(t, 415, "invalid_request")
	s.call(t, "POST", "/oauth/token?grant_type=refresh_token&refresh_token="+p.refresh, formBody()).oauthError(t, 400, "invalid_request")
	s.call(t, "POST", "/oauth/revoke", formBody()).oauthError(t, 400, "invalid_request")
	s.call(t, "POST", "/oauth/revoke", jsonBody(shape{"token": p.refresh})).oauthError(t, 415, "invalid_request")
	s.refreshed(t, p.refresh, 200)
}

// RFC 7009: an access token dies alone, a refresh token with its session.
func v1Revocation(t *testing.T, s *service) {
	p := s.register(t)
	id := s.currentID(t, p.token)
	access, refresh := s.refreshed(t, p.refresh, 200)
	revoke := func(pairs ...string) {
		t.Helper()
		s.call(t, "POST", "/oauth/revoke", formBody(pairs...)).empty(t, 200)
	}
	revoke("token", p.token, "token_type_hint", "refresh_token") // a wrong hint is only a hint
	if s.alive(t, p.token) || !s.alive(t, access) {
		t.Error("revoking an access token revokes that one, and only that")
	}
	if !s.listed(t, access, id) {
		t.Error("revoking an access token ended its session")
	}
	revoke("token", p.token)
	_, refresh = s.refreshed(t, refresh, 200)
	for _, unknown := range []string{"nonsense", "a.b.c", strings.Repeat("A", len(refresh)), p.token + "x", "\x00"} {
		revoke("token", unknown)
	}
	if !s.alive(t, access) {
		t.Error("revoking what nobody has revoked something")
	}
	other := s.login(t, p)
	revoke("token", refresh, "token_type_hint", "access_token")
	if s.alive(t, access) || !s.alive(t, other) {
		t.Error("revoking a refresh token ends its session, and only that")
	}
	s.refreshed(t, refresh, 400)
	revoke("token", refresh)
	if h := s.history(t, other, id); h.Status != "logged_out" || h.EndedBy != "user" {
		t.Errorf("history says %+v", h)
	}
}

// clientsFile makes the file of a client that may introspect.
func clientsFile(t *testing.T) (path string, credentials option) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "clients")
	var secret strings.Builder
	if err := app.Run(t.Context(), []string{"clients", "add", "--file", path, "--id", "gateway"}, environ{}.lookup, &secret, io.Discard); err != nil {
		t.Fatal(err)
	}
	return path, func(r *http.Request) { r.SetBasicAuth("gateway", strings.TrimSpace(secret.String())) }
}

// RFC 7662: clients learn of a token what it says and whether it is good now,
// and of one that is not good nothing.
func TestIntrospection(t *testing.T) {
	path, credentials := clientsFile(t)
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		introspect := func(token string) answer {
			return s.call(t, "POST", "/oauth/introspect", formBody("token", token), credentials)
		}
		claims := claimsOf(t, p.token)
		want := shape{"active": true, "token_type": "Bearer"}
		for _, name := range []string{"iss", "aud", "sub", "username", "client_id", "jti", "sid", "iat", "exp", "auth_time", "amr"} {
			want[name] = claims[name]
		}
		introspect(p.token).is(t, 200, want)
		inactive := shape{"active": false}
		for _, token := range []string{"nonsense", "a.b.c", p.token + "x", "\x00"} {
			introspect(token).is(t, 200, inactive)
		}
		introspect("").oauthError(t, 400, "invalid_request")
		for name, opt := range map[string]option{
			"nothing": func(*http.Request) {}, "the user's own token": bearerOf(p.token), "a wrong secret": func(r *http.Request) { r.SetBasicAuth("gateway", "x") },
			"a wrong name": func(r *http.Request) { r.SetBasicAuth("nobody", "") }, "a user": func(r *http.Request) { r.SetBasicAuth(p.username, password) },
		} {
			a := s.call(t, "POST", "/oauth/introspect", formBody("token", p.token), opt)
			a.oauthError(t, 401, "invalid_client")
			if challenge := a.header.Get("WWW-Authenticate"); !strings.HasPrefix(challenge, "Basic") {
				t.Errorf("with %s: challenge %q", name, challenge)
			}
		}
		s.call(t, "DELETE", "/logout", bearerOf(p.token)).want(t, 200)
		introspect(p.token).is(t, 200, inactive)
	}, "CLIENTS_FILE="+path)
	t.Run("nobody may by default", func(t *testing.T) {
		s := startDev(t, t.TempDir())
		s.call(t, "POST", "/oauth/introspect", formBody("token", s.register(t).token), credentials).oauthError(t, 401, "invalid_client")
	})
}

// The access token says what the contract says, and others can verify it by
// what we publish.
func v1Token(t *testing.T, s *service) {
	p := s.register(t)
	var meta map[string]any
	s.call(t, "GET", "/.well-known/oauth-authorization-server").want(t, 200).into(t, &meta)
	a := s.call(t, "GET", "/.well-known/jwks.json")
	a.is(t, 200, shape{"keys": []any{shape{"kty": "OKP", "crv": "Ed25519", "kid": aText, "alg": "EdDSA", "use": "sig", "x": aText}}})
	if !strings.HasPrefix(a.header.Get("Cache-Control"), "public, max-age=") {
		t.Errorf("Cache-Control is %q", a.header.Get("Cache-Control"))
	}
	var set struct{ Keys []struct{ Kid, X string } }
	a.into(t, &set)
	x, err := base64.RawURLEncoding.DecodeString(set.Keys[0].X)
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.MapClaims{}
	token, err := jwt.ParseWithClaims(p.token, claims, func(*jwt.Token) (any, error) { return ed25519.PublicKey(x), nil },
		jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
		jwt.WithIssuer(meta["issuer"].(string)), jwt.WithAudience(meta["issuer"].(string)))
	if err != nil {
		t.Fatal(err)
	}
	compare(t, "header", shape{"alg": "EdDSA", "typ": "at+jwt", "kid": set.Keys[0].Kid}, token.Header)
	number := matcher(func(v any) string {
		if f, ok := v.(float64); !ok || f != float64(int64(f)) {
			return "want whole seconds"
		}
		return ""
	})
	compare(t, "claims", shape{
		"iss": meta["issuer"], "aud": meta["issuer"], "sub": anID, "sid": s.currentID(t, p.token), "jti": anID, "client_id": aText,
		"iat": number, "exp": number, "auth_time": number, "amr": []any{"pwd"}, "username": p.username,
	}, map[string]any(claims))
	if life := claims["exp"].(float64) - claims["iat"].(float64); life != 3600 {
		t.Errorf("the token lasts %v s", life)
	}
}

func v1Documents(t *testing.T, s *service) {
	public := "https://id.example"
	if s.prefix == "" { // dev
		public = s.base
	}
	s.call(t, "GET", "/.well-known/oauth-authorization-server").is(t, 200, shape{
		"issuer": aText, "jwks_uri": public + "/.well-known/jwks.json",
		"token_endpoint": public + "/oauth/token", "revocation_endpoint": public + "/oauth/revoke",
		"response_types_supported": []any{}, "grant_types_supported": []any{"refresh_token"},
		"introspection_endpoint": public + "/oauth/introspect", "introspection_endpoint_auth_methods_supported": []any{"client_secret_basic"},
		"token_endpoint_auth_methods_supported": []any{"none"}, "revocation_endpoint_auth_methods_supported": []any{"none"},
		"service_documentation": public + "/docs",
	})
	s.call(t, "GET", "/livez").is(t, 200, shape{"status": "ok"})
	s.call(t, "GET", "/readyz").is(t, 200, shape{"status": "ok", "checks": shape{"database": "ok", "redis": "ok"}})
	if got := s.call(t, "GET", "/openapi.json").want(t, 200); got.header.Get("Content-Type") != "application/json; charset=utf-8" || !strings.HasPrefix(got.text(t, "openapi"), "3.1") {
		t.Errorf("openapi.json is %s of %s", got.header.Get("Content-Type"), got.text(t, "openapi"))
	}
	docs := s.call(t, "GET", "/docs").want(t, 200)
	if got := docs.header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("/docs is %s", got)
	}
	for _, outside := range []string{`src="http`, `src="//`, `<link`, `@import`, `url(http`} {
		if strings.Contains(string(docs.body), outside) {
			t.Errorf("/docs asks another host: %s", outside)
		}
	}
	a := s.call(t, "GET", "/nothing-here")
	a.problem(t, false, 404, "not_found")
	for _, path := range []string{"/api/v1", "/api/v1/nothing", "/v1", "/api/v1/v1/sessions", "/livez/", "//livez", "/v1/sessions/a/b", "/metrics", "/debug/pprof/"} {
		s.call(t, "GET", path).want(t, 404)
	}
}

// A fresh proof of identity: what matters most wants one on /v1, and a challenge
// says so (RFC 9470). The classic routes do not.
func TestStepUp(t *testing.T) {
	limits := app.Settings{
		AccessTokenTTL: time.Hour, SessionIdleTTL: 48 * time.Hour, SessionMaxTTL: 96 * time.Hour,
		RefreshGrace: 30 * time.Second, ReauthMaxAge: 10 * time.Minute,
	}
	eachStore(t, limits, func(t *testing.T, s *service, c *clock) {
		start := c.Now()
		p := s.register(t)
		other := s.login(t, p)
		id := s.currentID(t, p.token)
		type guarded struct {
			method, path string
			body         any
			status       int
		}
		wanting := []guarded{
			{"PATCH", "/v1/users/me", shape{"email": "new-" + p.email}, 200},
			{"PUT", "/v1/users/me/password", shape{"current_password": password, "new_password": password}, 204},
			{"DELETE", "/v1/sessions", nil, 200},
			{"DELETE", "/v1/users/me", nil, 204},
		}
		ask := func(token string, g guarded) answer {
			opts := []option{bearerOf(token)}
			if g.body != nil {
				opts = append(opts, jsonBody(g.body))
			}
			return s.call(t, g.method, g.path, opts...)
		}
		refused := func(token string) {
			t.Helper()
			for _, g := range wanting {
				a := ask(token, g)
				a.problem(t, false, 401, "insufficient_user_authentication")
				challenge := a.header.Get("WWW-Authenticate")
				if !strings.Contains(challenge, `error="insufficient_user_authentication"`) || !strings.Contains(challenge, `max_age="600"`) {
					t.Errorf("%s %s: challenge %q", g.method, g.path, challenge)
				}
			}
		}

		c.set(start.Add(10*time.Minute - time.Second))
		ask(p.token, wanting[0]).want(t, 200)
		c.set(start.Add(10 * time.Minute))
		refused(p.token)
		refreshedToken, _ := s.refreshed(t, p.refresh, 200)
		refused(refreshedToken)
		// A token that is not good gets no such advice.
		s.call(t, "DELETE", "/v1/sessions", bearerOf("x"+p.token)).problem(t, false, 401, "invalid_token")
		if !s.alive(t, p.token) || !s.alive(t, other) {
			t.Error("what was refused was done")
		}

		// What matters less needs no proof.
		s.call(t, "PATCH", "/v1/users/me", bearerOf(p.token), jsonBody(shape{"first_name": "Ada"})).want(t, 200)
		s.call(t, "DELETE", "/v1/sessions?except=current", bearerOf(p.token)).is(t, 200, shape{"revoked": 1})

		reauthenticate := func(body any) answer {
			return s.call(t, "POST", "/v1/sessions/current/reauthenticate", bearerOf(p.token), jsonBody(body))
		}
		reauthenticate(shape{"password": "wrong passphrase"}).problem(t, false, 403, "invalid_credentials")
		reauthenticate(shape{}).problem(t, false, 400, "invalid_request", "password")
		a := reauthenticate(shape{"password": password}).
			is(t, 200, shape{"access_token": aJWT, "token_type": "Bearer", "expires_in": 3600, "session": sessionShape(id, true)})
		fresh := a.text(t, "access_token")
		claims := claimsOf(t, fresh)
		if claims["sid"] != id || int64(claims["auth_time"].(float64)) != c.Now().Unix() {
			t.Errorf("reauthenticating gave sid %v and auth_time %v", claims["sid"], claims["auth_time"])
		}
		if !s.alive(t, p.token) {
			t.Error("reauthenticating ended the token before")
		}
		refused(p.token)
		for _, g := range wanting[:3] {
			ask(fresh, g).want(t, g.status)
		}
		again := s.login(t, p)
		ask(again, wanting[3]).want(t, 204)

		// The classic routes take any age.
		q := s.register(t)
		c.set(c.Now().Add(50 * time.Minute))
		s.call(t, "PUT", "/updateUser", bearerOf(q.token), jsonBody(shape{"username": q.username, "email": "new-" + q.email})).want(t, 200)
		s.call(t, "PUT", "/updatePassword", bearerOf(q.token), jsonBody(shape{"username": q.username, "password": goodPassword})).want(t, 200)
		s.call(t, "GET", "/user/logins/delete/all/not-current", bearerOf(q.token)).want(t, 200)
		s.call(t, "DELETE", "/deleteUser?username="+q.username, bearerOf(q.token)).want(t, 200)
		r := s.register(t)
		c.set(c.Now().Add(50 * time.Minute))
		s.call(t, "GET", "/user/logins/deletes/all", bearerOf(r.token)).want(t, 200)
	})
}

// The grace of a refresh ends at the second; after it the old token is a thief's.
func TestRefreshGrace(t *testing.T) {
	limits := app.Settings{AccessTokenTTL: time.Hour, SessionIdleTTL: 48 * time.Hour, SessionMaxTTL: 96 * time.Hour, RefreshGrace: 30 * time.Second}
	eachStore(t, limits, func(t *testing.T, s *service, c *clock) {
		p := s.register(t)
		start := c.Now()
		access, next := s.refreshed(t, p.refresh, 200)
		c.set(start.Add(30*time.Second - time.Millisecond))
		if _, again := s.refreshed(t, p.refresh, 200); again != next {
			t.Error("within the grace there is another successor")
		}
		c.set(start.Add(30 * time.Second))
		s.refreshed(t, p.refresh, 400)
		if s.alive(t, access) || s.alive(t, p.token) {
			t.Error("a stolen session is accepted")
		}
		s.refreshed(t, next, 400)
	})
}

// ---- what is the same for every answer -------------------------------------

// wantSecure fails the test unless the answer carries the headers that all do.
func (a answer) wantSecure(t testing.TB, what string) {
	t.Helper()
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
		"Strict-Transport-Security": "max-age=", "Content-Security-Policy": "default-src 'none'",
	} {
		if got := a.header.Values(name); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("%s: %s is %q", what, name, got)
		}
	}
	if csp := a.header.Get("Content-Security-Policy"); !strings.Contains(csp, "frame-ancestors 'none'") {
		t.Errorf("%s: it may be framed: %s", what, csp)
	}
	if a.header.Get("Cache-Control") == "" || a.header.Get("X-Request-Id") == "" {
		t.Errorf("%s: Cache-Control %q, X-Request-Id %q", what, a.header.Get("Cache-Control"), a.header.Get("X-Request-Id"))
	}
	for _, name := range []string{"Server", "X-Powered-By"} {
		if a.header.Get(name) != "" {
			t.Errorf("%s: %s is %q", what, name, a.header.Get(name))
		}
	}
	if cookies := a.header.Values("Set-Cookie"); len(cookies) > 1 || len(cookies) == 1 && !strings.HasPrefix(strings.TrimPrefix(cookies[0], "__Host-"), "sessiond_device="+a.header.Get("X-Device-Token")+";") {
		t.Errorf("%s: a cookie that is not the device's: %q", what, cookies)
	}
	if contentType := a.header.Get("Content-Type"); len(a.body) > 0 {
		if !strings.HasSuffix(contentType, "; charset=utf-8") || a.header.Get("Content-Length") != strconv.Itoa(len(a.body)) {
			t.Errorf("%s: %d bytes, announced as %s of %q", what, len(a.body), a.header.Get("Content-Length"), contentType)
		}
	}
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	path, client := clientsFile(t)
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		seen := map[int]bool{}
		ask := func(method, path string, opts ...option) answer {
			a := s.call(t, method, path, opts...)
			a.wantSecure(t, fmt.Sprintf("%s %s (%d)", method, path, a.status))
			seen[a.status] = true
			return a
		}
		for _, r := range everyRoute() {
			path := r.at("nonsense")
			if a := ask(r.method, path); r.protected && a.status != 401 {
				t.Errorf("%s %s without a token: %d", r.method, path, a.status)
			}
			if r.fields != "" {
				ask(r.method, path, r.auth(p.token, client), rawBody("text/plain", []byte("x"))).want(t, 415)
				ask(r.method, path, r.auth(p.token, client), rawBody("application/json", make([]byte, 65<<10)))
			}
			if r.method == "GET" && !strings.Contains(path, "delete") {
				ask(r.method, path, bearerOf(p.token))
			}
		}
		ask("POST", "/loginUser", jsonBody(shape{"username": p.username, "password": password})).want(t, 200)
		ask("POST", "/v1/sessions", jsonBody(shape{"login": p.username, "password": password})).want(t, 201)
		ask("POST", "/v1/users", jsonBody(shape{"username": p.username, "email": "x" + p.email, "password": password})).want(t, 409)
		ask("POST", "/v1/password-resets", jsonBody(shape{"email": p.email})).want(t, 202)
		ask("POST", "/oauth/token", formBody("grant_type", "refresh_token", "refresh_token", "x")).want(t, 400)
		ask("POST", "/oauth/revoke", formBody("token", "x")).want(t, 200)
		ask("GET", "/findUser?username=somebody-else", bearerOf(p.token)).want(t, 403)
		ask("GET", "/nothing").want(t, 404)
		ask("GET", "/%ff%00").want(t, 404)
		ask("GET", "/registerUser").want(t, 405)
		ask("DELETE", "/v1/sessions/current", bearerOf(p.token)).want(t, 204)
		for _, status := range []int{200, 201, 202, 204, 400, 401, 403, 404, 405, 409, 413, 415} {
			if !seen[status] {
				t.Errorf("status %d was never seen", status)
			}
		}
		// A request's id is taken over when it is plain, and made when not.
		if got := ask("GET", "/livez", header("X-Request-Id", "from-the-proxy_1")).header.Get("X-Request-Id"); got != "from-the-proxy_1" {
			t.Errorf("X-Request-Id is %q", got)
		}
		for _, id := range []string{"a b", strings.Repeat("x", 65), `"><script>`, "ünïcode"} {
			if got := ask("GET", "/livez", header("X-Request-Id", id)).header.Get("X-Request-Id"); got == id || got == "" {
				t.Errorf("X-Request-Id is %q", got)
			}
		}
	}, "CLIENTS_FILE="+path)
}

// Every path refuses the verbs that it does not know, and names those it does.
func TestMethodNotAllowed(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		allowed := map[string][]string{}
		for _, r := range everyRoute() {
			path := r.at("nonsense")
			if path == "/v1/verify" { // takes every method: TestGatewayCheck
				continue
			}
			allowed[path] = append(allowed[path], r.method)
		}
		for path, methods := range allowed {
			slices.Sort(methods)
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get", "FOO"} {
				if slices.Contains(methods, method) {
					continue
				}
				a := s.call(t, method, path, bearerOf(p.token), header("X-Http-Method-Override", methods[0]), header("X-Secret", "echo?"))
				if a.status != http.StatusMethodNotAllowed {
					t.Errorf("%s %s: status %d", method, path, a.status)
					continue
				}
				got := slices.Collect(strings.SplitSeq(strings.Join(a.header.Values("Allow"), ","), ","))
				for i := range got {
					got[i] = strings.TrimSpace(got[i])
				}
				slices.Sort(got)
				if !slices.Equal(got, methods) {
					t.Errorf("%s %s: Allow is %v, want %v", method, path, got, methods)
				}
				a.wantSecure(t, method+" "+path)
				if method != "HEAD" && (a.text(t, "code") != "method_not_allowed" || strings.Contains(string(a.body), "echo?")) {
					t.Errorf("%s %s: %s", method, path, a.body)
				}
			}
		}
		for _, method := range []string{"GET", "HEAD", "PROPFIND", "get", "FOO"} {
			a := s.call(t, method, "/nowhere").want(t, 404)
			if a.header.Get("Allow") != "" || method != "HEAD" && a.text(t, "code") != "not_found" {
				t.Errorf("%s where nothing is: Allow %q, %s", method, a.header.Get("Allow"), a.body)
			}
		}
		if !s.alive(t, p.token) {
			t.Error("a verb that is not allowed ended a session")
		}
	})
}

// Who registers somebody else's address does not shut its owner out: they ask for
// a new password, which is all that opens the account from then on.
func TestOwnerTakesOverAPendingAccount(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		for _, forgot := range []string{"/forgotPassword", "/v1/password-resets"} {
			squat := person{username: freshName()}
			squat.email = squat.username + "@example.com"
			const theirs, own = "the attacker's passphrase", "the owner's passphrase"
			login := func(login, password string) answer {
				return s.call(t, "POST", "/v1/sessions", jsonBody(shape{"login": login, "password": password}))
			}
			register := func(username, password string) {
				t.Helper()
				s.call(t, "POST", "/v1/users", jsonBody(shape{"username": username, "email": squat.email, "password": password})).want(t, 202)
			}
			register(squat.username, theirs)
			confirm := verifyLink.FindStringSubmatch(s.awaitMail(t, squat.email, "#token=").Text)[1]
			register(freshName(), own)
			s.awaitMail(t, squat.email, "already have")
			login(squat.username, theirs).problem(t, false, 401, "invalid_credentials")

			if a := s.call(t, "POST", forgot, jsonBody(shape{"email": squat.email})); a.status != 200 && a.status != 202 {
				t.Fatalf("%s: status %d: %s", forgot, a.status, a.body)
			}
			token := resetLink.FindStringSubmatch(s.awaitMail(t, squat.email, "resetPasswordToken=").Text)[1]
			login(squat.username, theirs).problem(t, false, 401, "invalid_credentials")
			s.call(t, "POST", "/v1/password-resets/complete", jsonBody(shape{"token": token, "password": own})).empty(t, 204)

			for range 2 {
				for _, name := range []string{squat.username, squat.email} {
					login(name, theirs).problem(t, false, 401, "invalid_credentials")
				}
				s.call(t, "POST", "/v1/users/verify", jsonBody(shape{"token": confirm})).problem(t, false, 404, "invalid_reset_token")
			}
			access := login(squat.email, own).want(t, 201).text(t, "access_token")
			var sessions struct{ Items []shape }
			s.call(t, "GET", "/v1/sessions", bearerOf(access)).want(t, 200).into(t, &sessions)
			if len(sessions.Items) != 1 {
				t.Errorf("%d sessions, want the owner's", len(sessions.Items))
			}
			if got := s.call(t, "GET", "/v1/users/me", bearerOf(access)).want(t, 200).text(t, "email_verified"); got != "true" {
				t.Errorf("the address is verified: %s", got)
			}
		}
	})
}

// No origin may read anything but those that are listed.
func TestCORS(t *testing.T) {
	corsHeaders := func(a answer) http.Header {
		h := http.Header{}
		for name, values := range a.header {
			if strings.HasPrefix(name, "Access-Control-") {
				h[name] = values
			}
		}
		return h
	}
	preflight := func(t *testing.T, s *service, origin string) answer {
		return s.call(t, "OPTIONS", "/updateUser", header("Origin", origin),
			header("Access-Control-Request-Method", "PUT"), header("Access-Control-Request-Headers", "authorization,content-type,x-device-token"))
	}
	login := func(t *testing.T, s *service, p person, origin string) answer {
		return s.call(t, "POST", "/loginUser", header("Origin", origin), jsonBody(shape{"username": p.username, "password": password})).want(t, 200)
	}
	strangers := []string{
		"null", "https://trusted.com.evil", "https://eviltrusted.com", "http://trusted.com", "https://trusted.com:8443",
		"https://sub.trusted.com", "https://trusted.com@evil.example", "*", "",
	}
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		for _, origin := range append(strangers, "https://trusted.com") {
			for _, a := range []answer{preflight(t, s, origin), s.call(t, "GET", "/livez", header("Origin", origin))} {
				if h := corsHeaders(a); len(h) > 0 {
					t.Errorf("by default %q gets %v", origin, h)
				}
			}
		}
		if h := corsHeaders(login(t, s, p, "https://trusted.com")); len(h) > 0 {
			t.Errorf("by default a login gets %v", h)
		}
	})
	t.Run("listed", func(t *testing.T) {
		s := startDev(t, t.TempDir(), "CORS_ORIGINS=https://trusted.com, http://localhost:3000")
		p := s.register(t)
		for _, origin := range strangers {
			for _, a := range []answer{preflight(t, s, origin), login(t, s, p, origin)} {
				if h := corsHeaders(a); len(h) > 0 {
					t.Errorf("%q is not listed and gets %v", origin, h)
				}
			}
		}
		for _, origin := range []string{"https://trusted.com", "http://localhost:3000"} {
			h := corsHeaders(preflight(t, s, origin))
			if h.Get("Access-Control-Allow-Origin") != origin || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "PUT") ||
				!strings.Contains(strings.ToLower(h.Get("Access-Control-Allow-Headers")), "x-device-token") {
				t.Errorf("preflight from %s gets %v", origin, h)
			}
			a := login(t, s, p, origin)
			h = corsHeaders(a)
			if h.Get("Access-Control-Allow-Origin") != origin || !strings.HasPrefix(strings.ToLower(h.Get("Access-Control-Expose-Headers")), "x-auth-token, x-device-token,") {
				t.Errorf("a login from %s gets %v", origin, h)
			}
			if h.Get("Access-Control-Allow-Credentials") != "" {
				t.Error("cookies are for nobody")
			}
			if !slices.Contains(slices.Collect(maps.Keys(a.header)), "Vary") {
				t.Error("an answer that depends on the origin says so by Vary")
			}
		}
	})
}
