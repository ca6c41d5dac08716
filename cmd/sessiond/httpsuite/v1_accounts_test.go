package httpsuite

import (
	"strings"
	"testing"
)

// userShape is the JSON of a user in responses of /v1.
func userShape(p person, verified bool) shape {
	return shape{
		"id": anID, "username": p.username, "email": p.email, "pending_email": nil, "email_verified": verified, "roles": []any{},
		"first_name": "", "last_name": "", "created_at": aTime,
	}
}

// v1Registration checks that a registration with a taken email address gets the same response as
// one with a free address. Only the mail to the address differs.
func v1Registration(t *testing.T, s *service) {
	name := newName()
	email := name + "@example.com"
	register := func(username, email string) response {
		return s.call(t, "POST", "/v1/users", jsonBody(shape{"username": username, "email": email, "password": password, "first_name": "Ada"}))
	}
	free := register(name, email).is(t, 202, messageShape)
	refused := s.newSession(t, name, password)
	refused.problem(t, false, 401, "invalid_credentials")
	sameResponse(t, "a user with an unconfirmed address and a wrong password", refused, s.newSession(t, newName(), password))

	token := s.confirmToken(t, email)
	verify := func(token string) response {
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
	s.call(t, "GET", "/v1/users/me", bearer(access)).is(t, 200, want)

	sameResponse(t, "a taken and a free address", register(newName(), strings.ToUpper(email)), free)
	s.awaitMail(t, email, "already have")
	register(strings.ToUpper(name), "x"+email).problem(t, false, 409, "username_taken")
	s.call(t, "POST", "/v1/users", jsonBody(shape{})).problem(t, false, 400, "invalid_request", "username", "email", "password")
}

func v1Profile(t *testing.T, s *service) {
	p, q := s.register(t), s.register(t)
	s.confirm(t, q)
	s.call(t, "GET", "/v1/users/me", bearer(p.token)).is(t, 200, userShape(p, false))
	patch := func(body any) response { return s.call(t, "PATCH", "/v1/users/me", bearer(p.token), jsonBody(body)) }

	want := userShape(p, false)
	want["first_name"] = "Žofie 👩‍💻"
	patch(shape{"first_name": "Žofie 👩‍💻"}).is(t, 200, want)
	patch(shape{}).is(t, 200, want)
	want["pending_email"] = "new-" + p.email
	patch(shape{"email": "new-" + p.email}).is(t, 200, want)
	s.call(t, "GET", "/v1/users/me", bearer(p.token)).is(t, 200, want)

	patch(shape{"email": strings.ToUpper(q.email)}).problem(t, false, 409, "email_taken")
	patch(shape{"email": "nonsense", "first_name": strings.Repeat("x", 201)}).problem(t, false, 400, "invalid_request", "first_name", "email")
	patch(shape{"username": q.username}).problem(t, false, 400, "invalid_request", "username")
	s.call(t, "GET", "/v1/users/me", bearer(p.token)).is(t, 200, want)
}

func v1Deletion(t *testing.T, s *service) {
	p := s.register(t)
	s.confirm(t, p)
	second := s.login(t, p)
	s.call(t, "DELETE", "/v1/users/me", bearer(p.token)).empty(t, 204)
	if s.alive(t, p.token) || s.alive(t, second) {
		t.Error("a token of a deleted user is accepted")
	}
	s.refreshed(t, p.refresh, 400)
	s.newSession(t, p.username, password).problem(t, false, 401, "invalid_credentials")
	s.awaitMail(t, p.email, "was deleted")
}

func v1PasswordChange(t *testing.T, s *service) {
	p := s.register(t)
	s.confirm(t, p)
	second := s.login(t, p)
	change := func(body any) response {
		return s.call(t, "PUT", "/v1/users/me/password", bearer(p.token), jsonBody(body))
	}
	change(shape{"current_password": "wrong passphrase", "new_password": goodPassword}).problem(t, false, 403, "invalid_credentials")
	change(shape{}).problem(t, false, 400, "invalid_request", "current_password", "new_password")
	change(shape{"new_password": goodPassword}).problem(t, false, 400, "invalid_request", "current_password")
	change(shape{"current_password": password, "new_password": "kX9#vQ2"}).problem(t, false, 400, "invalid_request", "new_password")
	change(shape{"current_password": password, "new_password": "password1"}).problem(t, false, 400, "invalid_request", "new_password")
	if !s.alive(t, second) {
		t.Error("a refused password change revoked a session")
	}
	change(shape{"current_password": password, "new_password": goodPassword}).empty(t, 204)
	if s.alive(t, second) || !s.alive(t, p.token) {
		t.Error("a password change must revoke all other sessions and no more")
	}
	s.refreshed(t, p.refresh, 200)
	s.newSession(t, p.username, password).problem(t, false, 401, "invalid_credentials")
	s.newSession(t, p.username, goodPassword).want(t, 201)
	s.awaitMail(t, p.email, "password was changed")
}

func v1PasswordReset(t *testing.T, s *service) {
	p := s.register(t)
	request := func(email string) response {
		return s.call(t, "POST", "/v1/password-resets", jsonBody(shape{"email": email}))
	}
	known := request(p.email).is(t, 202, messageShape)
	sameResponse(t, "an unknown and a known address", request("nobody-"+p.email), known)
	request("").problem(t, false, 400, "invalid_request", "email")
	request("nonsense").problem(t, false, 400, "invalid_request", "email")

	token := resetLink.FindStringSubmatch(s.awaitMail(t, p.email, "resetPasswordToken=").Text)[1]
	check := func(token string) response {
		return s.call(t, "POST", "/v1/password-resets/check", jsonBody(shape{"token": token}))
	}
	complete := func(token, password string) response {
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
		t.Error("an incomplete reset revoked a session")
	}
	complete(token, goodPassword).empty(t, 204)
	complete(token, password).want(t, 404)
	check(token).want(t, 404)
	if s.alive(t, p.token) {
		t.Error("a session is accepted after a reset")
	}
	s.refreshed(t, p.refresh, 400)
	s.newSession(t, p.username, password).want(t, 401)
	fresh := s.newSession(t, p.username, goodPassword).want(t, 201).text(t, "access_token")
	var history struct{ Items []historyItem }
	s.call(t, "GET", "/v1/logins", bearer(fresh)).want(t, 200).into(t, &history)
	if oldest := history.Items[len(history.Items)-1]; oldest.Status != "revoked" || oldest.EndReason != "password_reset" {
		t.Errorf("the oldest login in the history is %+v, want revoked because of password_reset", oldest)
	}
}

// A stranger may register an account with somebody else's email address. The owner of the address takes
// the account over by resetting its password by mail. Afterwards neither the stranger's password nor the
// old confirmation link may work.
func TestUnconfirmedAccount_OwnerOfEmailAddressTakesItOverByPasswordReset(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		for _, forgot := range []string{"/forgotPassword", "/v1/password-resets"} {
			pending := person{username: newName()}
			pending.email = pending.username + "@example.com"
			const strangers, owners = "the stranger's passphrase", "the owner's passphrase"
			login := func(login, password string) response {
				return s.newSession(t, login, password)
			}
			s.call(t, "POST", "/v1/users", registration(pending.username, pending.email, strangers)).want(t, 202)
			confirm := s.confirmToken(t, pending.email)
			login(pending.username, strangers).problem(t, false, 401, "invalid_credentials")

			if a := s.call(t, "POST", forgot, jsonBody(shape{"email": pending.email})); a.status != 200 && a.status != 202 {
				t.Fatalf("%s: status %d: %s", forgot, a.status, a.body)
			}
			token := resetLink.FindStringSubmatch(s.awaitMail(t, pending.email, "resetPasswordToken=").Text)[1]
			login(pending.username, strangers).problem(t, false, 401, "invalid_credentials")
			s.call(t, "POST", "/v1/password-resets/complete", jsonBody(shape{"token": token, "password": owners})).empty(t, 204)

			for range 2 {
				for _, name := range []string{pending.username, pending.email} {
					login(name, strangers).problem(t, false, 401, "invalid_credentials")
				}
				s.call(t, "POST", "/v1/users/verify", jsonBody(shape{"token": confirm})).problem(t, false, 404, "invalid_reset_token")
			}
			access := login(pending.email, owners).want(t, 201).text(t, "access_token")
			var sessions struct{ Items []shape }
			s.call(t, "GET", "/v1/sessions", bearer(access)).want(t, 200).into(t, &sessions)
			if len(sessions.Items) != 1 {
				t.Errorf("%d sessions, want only that of the owner", len(sessions.Items))
			}
			if got := s.call(t, "GET", "/v1/users/me", bearer(access)).want(t, 200).text(t, "email_verified"); got != "true" {
				t.Errorf("email_verified is %s, want true", got)
			}
		}
	})
}
