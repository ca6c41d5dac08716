package httpsuite

import (
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
)

// v1Export checks that a user gets everything that is stored about them, and nothing of another user.
func v1Export(t *testing.T, s *service) {
	p, other := s.register(t), s.register(t)
	second := s.newSession(t, p.username, password, header("User-Agent", firefox)).want(t, 201)
	s.call(t, "DELETE", "/logout", bearer(second.text(t, "access_token"))).want(t, 200)
	s.newSession(t, p.username, "wrong passphrase", header("User-Agent", firefox)).want(t, 401)
	s.newSession(t, other.username, password).want(t, 201)
	s.confirmToken(t, p.email)
	s.call(t, "POST", "/forgotPassword", jsonBody(shape{"email": p.email})).want(t, 200)
	s.awaitMail(t, p.email, "resetPasswordToken=")

	session := func(change shape) shape {
		all := shape{
			"id": anID, "ip_address": "127.0.0.1", "device": anyText, "user_agent": anyText, "created_at": aTime, "last_seen_at": aTime,
			"expires_at": aTime, "current": false, "status": "active", "ended_at": nil, "end_reason": nil, "ended_by": nil,
			"token_id": anID, "amr": "pwd", "auth_time": aTime, "access_expires_at": aTime, "max_expires_at": aTime,
		}
		for name, value := range change {
			all[name] = value
		}
		return all
	}
	event := func(kind string, session any, actor, detail string) shape {
		return shape{"at": aTime, "type": kind, "session_id": session, "actor": actor, "detail": detail, "before": "", "after": "", "reason": ""}
	}
	got := s.call(t, "GET", "/v1/users/me/export", bearer(p.token)).is(t, 200, shape{
		"exported_at": aTime, "user": userShape(p, false), "claims": shape{}, "email_verified_at": nil, "updated_at": aTime,
		"earlier_emails": []any{},
		"mailed_links": []any{
			shape{"purpose": "confirm", "issued_at": aTime, "expires_at": aTime}, shape{"purpose": "reset", "issued_at": aTime, "expires_at": aTime},
		},
		"queued_mails": []any{},
		"logins": []any{
			session(shape{
				"user_agent": firefox, "device": "Firefox on Windows", "status": "failed", "ended_at": aTime, "end_reason": "wrong_password",
				"token_id": "", "amr": "", "auth_time": nil, "access_expires_at": nil, "max_expires_at": nil,
			}),
			session(shape{"user_agent": firefox, "device": "Firefox on Windows", "status": "logged_out", "ended_at": aTime, "end_reason": "logout", "ended_by": "user"}),
			session(shape{"current": true}),
		},
		"events": []any{
			event("user.registered", "", "user", ""), event("session.started", anID, "user", ""), event("session.started", anID, "user", ""),
			event("session.ended", anID, "user", "logout"), event("login.failed", "", "", "wrong_password"),
		},
	})
	if disposition := got.header.Get("Content-Disposition"); !strings.HasPrefix(disposition, "attachment;") {
		t.Errorf("Content-Disposition is %q", disposition)
	}
	if strings.Contains(string(got.body), other.username) || hashPattern.MatchString(string(got.body)) {
		t.Errorf("the export holds something of another user, or a hash: %s", got.body)
	}
	s.call(t, "GET", "/v1/users/me/export").problem(t, false, 401, "no_token")
}

// A history that is longer than a page of the export is exported as a whole.
func TestExport_HoldsLongHistories(t *testing.T) {
	settings := app.Settings{AccessTokenTTL: time.Hour, SessionIdleTTL: 48 * time.Hour, SessionMaxTTL: 96 * time.Hour}
	eachDatabase(t, func(t *testing.T, db *sqlstore.DB, store *redisstore.Store) {
		c := newClock()
		s := serveWith(t, settings, db, store, c)
		p := s.register(t)
		user, err := db.Users().ByUsername(t.Context(), p.username)
		if err != nil {
			t.Fatal(err)
		}
		const more = 1200
		for range more {
			id := issuer.NewTimedID(c.Now())
			if _, _, err := db.Sessions().Start(t.Context(), issuer.Start{
				ID: id, Subject: user.ID, TokenID: issuer.NewID(), CredentialVersion: user.PasswordVersion, At: c.Now(),
				AccessExpiresAt: c.Now().Add(time.Hour), ExpiresAt: c.Now().Add(time.Hour), MaxExpiresAt: c.Now().Add(time.Hour),
				RefreshFamily: sha256.Sum256([]byte(id)),
			}); err != nil {
				t.Fatal(err)
			}
		}
		type listed struct {
			ID string `json:"id"`
		}
		var export struct {
			Logins []listed
			Events []any
		}
		s.call(t, "GET", "/v1/users/me/export", bearer(p.token)).want(t, 200).into(t, &export)
		ids := make(map[string]bool)
		for _, l := range export.Logins {
			ids[l.ID] = true
		}
		if len(ids) != more+1 || len(export.Logins) != more+1 || len(export.Events) != more+2 {
			t.Errorf("the export has %d logins, %d of them different, and %d events; want %d, %[4]d and %d", len(export.Logins), len(ids), len(export.Events), more+1, more+2)
		}
	})
}
