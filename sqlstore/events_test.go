package sqlstore_test

import (
	"crypto/sha256"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
)

// TestEvents_RecordEveryAuditedChange_ASVS_V16_3_1_V16_3_3 makes every kind of audited change and reads the audit trail.
func TestEvents_RecordEveryAuditedChange_ASVS_V16_3_1_V16_3_3(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		ctx, users, sessions := t.Context(), db.Users(), db.Sessions()
		ok := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		at := longAgo
		tick := func() time.Time { at = at.Add(time.Second); return at }
		start := func(version int64) issuer.Session {
			t.Helper()
			s, _, err := sessions.Start(ctx, newStart("u1", version, tick()))
			ok(err)
			return s
		}
		user := newUser("Zoë")
		user.ID, user.Status, user.EmailVerifiedAt = "u1", identity.StatusPending, time.Time{}
		token := identity.TokenHash{1}

		ok(users.Create(ctx, user, time.Time{}, nil))
		ok(users.RecordAttempt(ctx, identity.Attempt{ID: "a1", UserID: "u1", Reason: "unverified", At: tick()}))
		ok(users.IssueToken(ctx, "u1", user.Email, identity.PurposeConfirm, token, at.Add(time.Hour), at))
		ok(users.ConfirmEmail(ctx, token, true, tick()))
		one := start(1)
		_, _, err := sessions.Revoke(ctx, "u1", one.ID, issuer.Ending{At: tick(), Reason: issuer.ReasonLogout, By: issuer.ByUser})
		ok(err)
		_, _, err = sessions.Revoke(ctx, "u1", one.ID, issuer.Ending{At: tick(), Reason: issuer.ReasonRevoked, By: issuer.ByUser}) // Revoke adds no event, because the session has already ended
		ok(err)
		two := start(1)
		_, _, err = sessions.Rotate(ctx, sha256.Sum256([]byte(two.ID)), func(issuer.Rotatable) (issuer.Rotation, error) {
			return issuer.Rotation{End: &issuer.Ending{At: tick(), Reason: issuer.ReasonTokenTheft, By: issuer.BySystem}}, nil
		})
		ok(err)
		three := start(1)
		_, _, err = sessions.Reauthenticate(ctx, issuer.Reauthentication{
			Subject: "u1", ID: three.ID, TokenID: "t", CredentialVersion: 1, At: tick(), AccessExpiresAt: at,
			ReplacedTokenID: "replaced", ReplacedExpiresAt: at.Add(time.Hour),
		})
		ok(err)
		_, err = sessions.RevokeToken(ctx, "u1", three.ID, "jti", at.Add(time.Hour), tick())
		ok(err)
		email, first := "new@example.org", "Zoë"
		_, err = users.Update(ctx, "u1", identity.Profile{Email: &email}, tick())
		ok(err)
		ok(users.IssueToken(ctx, "u1", email, identity.PurposeConfirm, token, at.Add(time.Hour), at))
		ok(users.ConfirmEmail(ctx, token, true, tick()))
		_, err = users.Update(ctx, "u1", identity.Profile{FirstName: &first}, tick()) // a change of name is not audited
		ok(err)
		four := start(1)
		_, err = users.SetPassword(ctx, "u1", 1, "hash2", four.ID, tick(), mail.Envelope{})
		ok(err)
		ok(users.IssueToken(ctx, "u1", email, identity.PurposeReset, token, at.Add(time.Hour), at))
		_, err = users.ResetPassword(ctx, token, "u1", "hash3", tick(), mail.Envelope{})
		ok(err)
		five := start(3)
		_, _, err = sessions.RevokeAll(ctx, "u1", "", issuer.Ending{At: tick(), Reason: issuer.ReasonRevokedAll, By: issuer.ByUser})
		ok(err)
		six := start(3)
		_, err = users.Delete(ctx, "u1", tick(), mail.Envelope{})
		ok(err)

		var rows []struct {
			Type      string `db:"type"`
			UserID    string `db:"user_id"`
			SessionID string `db:"session_id"`
			Actor     string `db:"actor"`
			Detail    string `db:"detail"`
		}
		ok(db.SQL().SelectContext(ctx, &rows, `SELECT type, user_id, session_id, actor, detail FROM events ORDER BY seq`))
		names := strings.NewReplacer(one.ID, "one", two.ID, "two", three.ID, "three", four.ID, "four", five.ID, "five", six.ID, "six")
		var got []string
		for _, r := range rows {
			got = append(got, names.Replace(strings.Join([]string{r.Type, r.UserID, r.SessionID, r.Actor, r.Detail}, "|")))
		}
		want := []string{
			"user.registered|u1||user|",
			"login.failed|u1|||unverified",
			"email.verified|u1||user|",
			"session.started|u1|one|user|",
			"session.ended|u1|one|user|logout",
			"session.started|u1|two|user|",
			"refresh.theft|u1|two|system|",
			"session.ended|u1|two|system|token_theft",
			"session.started|u1|three|user|",
			"session.reauthenticated|u1|three|user|",
			"token.revoked|u1|three|user|replaced",
			"token.revoked|u1|three|user|jti",
			"email.change_requested|u1||user|",
			"email.changed|u1||user|",
			"session.started|u1|four|user|",
			"password.changed|u1||user|",
			"sessions.ended|u1|four|user|password_changed",
			"password.reset|u1||user|",
			"sessions.ended|u1||user|password_reset",
			"session.started|u1|five|user|",
			"sessions.ended|u1||user|revoked_all",
			"session.started|u1|six|user|",
			"sessions.ended|u1||user|account_deleted",
			"user.deleted|u1||user|",
		}
		if !slices.Equal(got, want) {
			t.Errorf("the audit trail reads\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}
