package issuer_test

import (
	"fmt"
	"testing"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/session/issuer/issuertest"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// The token is older than the changes, so that its own roles are out of date.
func TestVerify_ReturnsAttributesAsTheyAreNow(t *testing.T) {
	w := issuertest.New(t, sqlstoretest.New(t), redisstoretest.New(t))
	set, _ := w.Start(t)
	other := issuertest.AddUser(t, w.DB)
	others, _, err := w.Replicas[0].Start(t.Context(), other, issuer.Client{})
	if err != nil {
		t.Fatal(err)
	}
	const changes = 100
	for i := range changes {
		for j := range w.Replicas { // Redis knows the session
			if _, err := w.Replica(j).Verify(t.Context(), set.AccessToken); err != nil {
				t.Fatal(err)
			}
		}
		want := session.Attributes{Roles: session.Roles(fmt.Sprint("admin,r", i)), Custom: fmt.Sprintf(`{"n":%d}`, i)}
		if i%3 == 2 {
			want = session.Attributes{}
		}
		setAttributes(t, w, i, w.User.ID, want)
		for j := range w.Replicas {
			claims, err := w.Replica(i+1+j).Verify(t.Context(), set.AccessToken)
			if err != nil || claims.Attributes != want {
				t.Fatalf("change %d: %+v, %v, want %+v", i, claims.Attributes, err, want)
			}
		}
	}
	if claims, err := w.Replicas[0].Verify(t.Context(), others.AccessToken); err != nil || claims.Attributes != (session.Attributes{}) {
		t.Errorf("another user: %+v, %v", claims.Attributes, err)
	}
	if claims, err := w.Replicas[0].VerifyOffline(set.AccessToken); err != nil || claims.Attributes != (session.Attributes{}) {
		t.Errorf("without a check: %+v, %v", claims.Attributes, err)
	}
}

// A change of attributes must not sign anybody out, whatever happened before.
func TestSetAttributes_KeepsOpenSessionsAndRevivesNone(t *testing.T) {
	w := issuertest.New(t, sqlstoretest.New(t), redisstoretest.New(t))
	revoked, s := w.Start(t)
	if _, err := w.Replicas[0].Revoke(t.Context(), w.User.ID, s.ID, issuer.ReasonRevoked); err != nil {
		t.Fatal(err)
	}
	byAll, _ := w.Start(t)
	if _, err := w.Replicas[1].RevokeAll(t.Context(), w.User.ID, "", issuer.ReasonRevokedAll); err != nil {
		t.Fatal(err)
	}
	first, _ := w.Start(t)
	second, kept := w.Start(t)
	setAttributes(t, w, 0, w.User.ID, session.Attributes{Roles: "admin"})
	for name, set := range map[string]issuer.TokenSet{"revoked": revoked, "revoked with all": byAll} {
		if _, err := w.Replicas[2].Verify(t.Context(), set.AccessToken); err == nil {
			t.Errorf("a session that was %s is accepted", name)
		}
	}
	for name, set := range map[string]issuer.TokenSet{"first": first, "second": second} {
		if claims, err := w.Replicas[2].Verify(t.Context(), set.AccessToken); err != nil || claims.Roles != "admin" {
			t.Errorf("the %s session: roles %q, %v", name, claims.Roles, err)
		}
		if next, s, err := w.Replicas[0].Refresh(t.Context(), set.RefreshToken); err != nil || s.Roles != "admin" || next.AccessToken == "" {
			t.Errorf("refresh of the %s session: roles %q, %v", name, s.Roles, err)
		}
	}
	if list, err := w.Replicas[0].Active(t.Context(), w.User.ID, issuer.Page{}); err != nil || len(list) != 2 {
		t.Errorf("%d active sessions, %v", len(list), err)
	}
	if _, err := w.Replicas[0].RevokeAll(t.Context(), w.User.ID, kept.ID, issuer.ReasonRevokedOthers); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Replicas[1].Verify(t.Context(), first.AccessToken); err == nil {
		t.Error("a session that was revoked after the change is accepted")
	}
	if claims, err := w.Replicas[1].Verify(t.Context(), second.AccessToken); err != nil || claims.Roles != "admin" {
		t.Errorf("the kept session: roles %q, %v", claims.Roles, err)
	}
}

// setAttributes sets the attributes of a user through replica i.
func setAttributes(t *testing.T, w *issuertest.World, i int, user string, to session.Attributes) {
	t.Helper()
	roles := to.Roles.List()
	revocation, err := w.DB.Users().SetAttributes(t.Context(), user, identity.AttributeChange{Roles: &roles, Claims: &to.Custom}, w.Replica(i).Now())
	if err != nil || revocation == 0 {
		t.Fatalf("revocation %d, %v", revocation, err)
	}
	if err := w.Replica(i).Enforce(t.Context(), revocation); err != nil {
		t.Fatal(err)
	}
}
