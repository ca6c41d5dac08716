package storetest

import (
	"time"

	"github.com/sessiond/sessiond/identity"
)

var attributeTests = []test{
	{"sets roles and claims, ends no session, and returns a revocation", func(s *suite) {
		u, other := s.added(), s.added()
		id, stranger := s.login(u.ID, 1), s.login(other.ID, 1)
		at := s.now.Add(time.Minute)
		revocation, err := s.SetAttributes(s.ctx, u.ID, identity.AttributeChange{
			Roles: &[]string{"editor", "admin", "editor"}, Claims: new(`{"a":1}`),
		}, at)
		s.ok(err)
		u.Roles, u.Claims, u.UpdatedAt = "admin,editor", `{"a":1}`, at
		s.same("afterwards", s.read(u.ID), u)
		s.same("another user", s.read(other.ID), other)
		s.ended(u.ID, map[string]string{id: ""})
		s.ended(other.ID, map[string]string{stranger: ""})
		s.revoked(revocation, u.ID, "")
		s.login(u.ID, 1)
	}},
	{"leaves a field that is nil, and empties one", func(s *suite) {
		u := s.added()
		_, err := s.SetAttributes(s.ctx, u.ID, identity.AttributeChange{Roles: &[]string{"admin"}, Claims: new(`{"a":1}`)}, s.now)
		s.ok(err)
		_, err = s.SetAttributes(s.ctx, u.ID, identity.AttributeChange{Claims: new("")}, s.now)
		s.ok(err)
		if got := s.read(u.ID); got.Roles != "admin" || got.Claims != "" {
			s.Errorf("roles %q, claims %q", got.Roles, got.Claims)
		}
		_, err = s.SetAttributes(s.ctx, u.ID, identity.AttributeChange{Roles: &[]string{}}, s.now)
		s.ok(err)
		if got := s.read(u.ID); got.Roles != "" {
			s.Errorf("roles %q", got.Roles)
		}
	}},
	{"does nothing if nothing changes, but returns a revocation that waits", func(s *suite) {
		u := s.added()
		if revocation, err := s.SetAttributes(s.ctx, u.ID, identity.AttributeChange{}, s.now); err != nil || revocation != 0 {
			s.Errorf("revocation %d, %v, want none", revocation, err)
		}
		change := identity.AttributeChange{Roles: &[]string{"admin"}}
		waiting, err := s.SetAttributes(s.ctx, u.ID, change, s.now)
		s.ok(err)
		before := s.read(u.ID)
		revocation, err := s.SetAttributes(s.ctx, u.ID, change, s.now.Add(time.Minute))
		s.ok(err)
		if revocation != waiting || waiting == 0 {
			s.Errorf("revocation %d, want %d, which waits", revocation, waiting)
		}
		s.same("afterwards", s.read(u.ID), before)
	}},
	{"returns ErrNotFound for an unknown or deleted user", func(s *suite) {
		u := s.added()
		_, err := s.Delete(s.ctx, u.ID, s.now, mailTo(u, "account_deleted"))
		s.ok(err)
		for _, id := range []string{u.ID, "nobody"} {
			_, err := s.SetAttributes(s.ctx, id, identity.AttributeChange{Roles: &[]string{"admin"}}, s.now)
			s.want(err, identity.ErrNotFound)
		}
	}},
}
