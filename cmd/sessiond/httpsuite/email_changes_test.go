package httpsuite

import (
	"strings"
	"testing"
)

func (s *service) verifyEmail(t *testing.T, body shape) response {
	t.Helper()
	return s.call(t, "POST", "/v1/users/verify", jsonBody(body))
}

// A new email address counts once it is confirmed, whichever route changes it.
func TestEmailChange_CountsOnceItIsConfirmed_ASVS_V7_5_1(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		for _, classic := range []bool{true, false} {
			p := s.register(t)
			s.confirm(t, p)
			moved := "new-" + p.email
			if classic {
				s.call(t, "PUT", "/updateUser", bearer(p.token), jsonBody(shape{"username": p.username, "email": moved})).is(t, 200, doneShape)
			} else {
				want := userShape(p, true)
				want["pending_email"] = moved
				s.call(t, "PATCH", "/v1/users/me", bearer(p.token), jsonBody(shape{"email": moved})).is(t, 200, want)
			}
			s.newSession(t, moved, password).problem(t, false, 401, "invalid_credentials")
			s.newSession(t, p.email, password).want(t, 201)
			s.call(t, "GET", "/findUser?username="+p.username, bearer(p.token)).is(t, 200, shape{
				"auth": true, "first_name": "", "last_name": "", "email": p.email, "username": p.username, "message": aText,
			})
			s.call(t, "POST", "/forgotPassword", jsonBody(shape{"email": moved})).problem(t, true, 403, "user_not_found")

			first := s.confirmToken(t, moved)
			s.call(t, "POST", "/v1/users/me/email-confirmations", bearer(p.token)).is(t, 202, messageShape)
			token := first
			await(t, "another link", func() bool { token = s.confirmToken(t, moved); return token != first })
			s.verifyEmail(t, shape{"token": first}).problem(t, false, 404, "invalid_reset_token")
			s.verifyEmail(t, shape{"token": token, "password": "wrong passphrase"}).problem(t, false, 403, "invalid_credentials")
			s.verifyEmail(t, shape{"token": token, "password": password}).empty(t, 204)
			p.email = moved
			s.call(t, "GET", "/v1/users/me", bearer(p.token)).is(t, 200, userShape(p, true))
			s.newSession(t, moved, password).want(t, 201)
			s.newSession(t, strings.TrimPrefix(moved, "new-"), password).problem(t, false, 401, "invalid_credentials")
			s.call(t, "POST", "/v1/users/me/email-confirmations", bearer(p.token)).is(t, 202, messageShape)
		}
		s.call(t, "POST", "/v1/users/me/email-confirmations").problem(t, false, 401, "no_token")
	})
}

// The earlier address undoes a change: the page of the link shows what it does, and a POST does it.
func TestEmailChange_EarlierAddressUndoesIt_ASVS_V7_5_1(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		undo := func(token string) response {
			return s.call(t, "POST", "/v1/email-changes/undo", jsonBody(shape{"token": token}))
		}
		for _, confirmed := range []bool{false, true} {
			p := s.register(t)
			s.confirm(t, p)
			second := s.login(t, p)
			thief := person{email: "thief-" + p.email}
			s.call(t, "PATCH", "/v1/users/me", bearer(p.token), jsonBody(shape{"email": thief.email})).want(t, 200)
			token := undoLink.FindStringSubmatch(s.awaitMail(t, p.email, "another address").Text)[1]
			pending := s.confirmToken(t, thief.email)
			if confirmed {
				s.verifyEmail(t, shape{"token": pending}).empty(t, 204)
			}

			page := s.call(t, "GET", "/v1/email-changes/undo").want(t, 200)
			if got := page.header.Get("Content-Type"); got != "text/html; charset=utf-8" || !strings.Contains(string(page.body), "This was not me") {
				t.Errorf("the page has the type %s: %s", got, page.body)
			}
			if !s.alive(t, second) {
				t.Error("looking at the page revoked a session")
			}
			undo("A"+token).problem(t, false, 404, "invalid_reset_token")
			undo("").problem(t, false, 400, "invalid_request", "token")
			undo(token).empty(t, 204)
			undo(token).problem(t, false, 404, "invalid_reset_token")
			s.verifyEmail(t, shape{"token": pending}).problem(t, false, 404, "invalid_reset_token")
			if s.alive(t, p.token) || s.alive(t, second) {
				t.Error("a session is accepted after the change was undone")
			}
			s.refreshed(t, p.refresh, 400)
			fresh := s.login(t, p)
			s.call(t, "GET", "/v1/users/me", bearer(fresh)).is(t, 200, userShape(p, true))
			reset := resetLink.FindStringSubmatch(s.awaitMail(t, p.email, "resetPasswordToken=").Text)[1]
			s.call(t, "POST", "/v1/password-resets/complete", jsonBody(shape{"token": reset, "password": goodPassword})).empty(t, 204)
			if s.alive(t, fresh) {
				t.Error("a session is accepted after the reset")
			}
		}
	})
}

// A stranger registers with an owner's address before the owner does. The owner's registration wins, and
// the owner confirms nothing that the owner did not ask for.
func TestRegistration_OwnerOfAddressWins(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		for _, squatting := range []string{"/v1/users", "/registerUser"} {
			const strangers, owners = "the stranger's passphrase", "the owner's passphrase"
			stranger, owner := newName(), newName()
			email := owner + "@example.com"
			if a := s.call(t, "POST", squatting, registration(stranger, email, strangers)); a.status != 200 && a.status != 202 {
				t.Fatalf("%s: status %d: %s", squatting, a.status, a.body)
			}
			first := s.confirmToken(t, email)
			s.call(t, "POST", "/v1/users", registration(owner, email, owners)).is(t, 202, messageShape)
			second := first
			await(t, "a link for the owner", func() bool { second = s.confirmToken(t, email); return second != first })

			s.verifyEmail(t, shape{"token": first}).problem(t, false, 404, "password_required")
			s.verifyEmail(t, shape{"token": first, "password": owners}).problem(t, false, 403, "invalid_credentials")
			s.verifyEmail(t, shape{"token": second}).empty(t, 204)
			s.verifyEmail(t, shape{"token": first, "password": strangers}).problem(t, false, 404, "invalid_reset_token")
			access := s.newSession(t, email, owners).want(t, 201).text(t, "access_token")
			s.call(t, "GET", "/v1/users/me", bearer(access)).is(t, 200, userShape(person{username: owner, email: email}, true))
			s.newSession(t, email, strangers).problem(t, false, 401, "invalid_credentials")
			if squatting == "/v1/users" {
				s.newSession(t, stranger, strangers).problem(t, false, 401, "invalid_credentials")
			} else {
				access := s.newSession(t, stranger, strangers).want(t, 201).text(t, "access_token")
				s.call(t, "GET", "/v1/users/me", bearer(access)).is(t, 200, userShape(person{username: stranger}, false))
			}
		}
	})
}

func TestRegistration_SameDataGetsAnotherLink(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		name := newName()
		email := name + "@example.com"
		register := func(password string) response {
			return s.call(t, "POST", "/v1/users", registration(name, email, password))
		}
		first := register(password).is(t, 202, messageShape)
		lost := s.confirmToken(t, email)
		sameResponse(t, "a repeated registration and the first", register(password), first)
		token := lost
		await(t, "another link", func() bool { token = s.confirmToken(t, email); return token != lost })
		register(goodPassword).problem(t, false, 409, "username_taken")
		s.verifyEmail(t, shape{"token": lost}).problem(t, false, 404, "invalid_reset_token")
		s.verifyEmail(t, shape{"token": token}).empty(t, 204)
		register(password).problem(t, false, 409, "username_taken")
	})
}

// A stranger makes the service send mail to an owner as often as the limits allow. The owner, on a new
// device, then asks for a reset for the first time.
func TestResetMail_ArrivesUnderAttack_ASVS_V6_3_1(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		for _, path := range []string{"/v1/users", "/v1/password-resets", "/forgotPassword"} {
			p := s.register(t)
			attack := func() response {
				body := shape{"email": p.email}
				if path == "/v1/users" {
					body = shape{"username": newName(), "email": p.email, "password": password}
				}
				return s.call(t, "POST", path, jsonBody(body), fromAddress(1))
			}
			for range 25 {
				if a := attack().patient(t); a.status != 200 && a.status != 202 && a.status != 429 {
					t.Fatalf("%s: status %d: %s", path, a.status, a.body)
				}
			}
			resets := func() (n int) {
				for _, m := range s.mails() {
					if m.To == p.email && resetLink.MatchString(m.Text) {
						n++
					}
				}
				return n
			}
			if path != "/v1/users" {
				await(t, "the reset mails of the attack", func() bool { return resets() == 3 })
			}
			before := resets()
			s.call(t, "POST", "/v1/password-resets", jsonBody(shape{"email": p.email}), fromAddress(2)).is(t, 202, messageShape)
			await(t, "the owner's reset mail", func() bool { return resets() == before+1 })
			s.call(t, "POST", "/forgotPassword", jsonBody(shape{"email": p.email}), fromAddress(3)).is(t, 200, messageShape)
			await(t, "the owner's second reset mail", func() bool { return resets() == before+2 })
		}
	}, limitsByAddress...)
}

// A user changes the address to and fro. Nobody confirmed any of the addresses.
func TestEmailChange_DoesNotFloodStrangers_ASVS_V2_3_2(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		p := s.register(t)
		limited := 0
		for i := range 15 {
			to := []string{"victim-", "other-"}[i%2] + p.email
			if s.call(t, "PATCH", "/v1/users/me", bearer(p.token), jsonBody(shape{"email": to})).status == 429 {
				limited++
			}
		}
		if limited != 12 {
			t.Errorf("%d of 15 changes were limited, want 12", limited)
		}
		s.call(t, "POST", "/v1/users/me/email-confirmations", bearer(p.token)).wantLimited(t, "email-change")
		s.confirmToken(t, "victim-"+p.email)
		for _, m := range s.mails() {
			if strings.Contains(m.Subject, "another address") {
				t.Errorf("a notice to %s, which nobody confirmed", m.To)
			}
		}
	}, limitsByAddress...)
}
