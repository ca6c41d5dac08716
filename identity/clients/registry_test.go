package clients

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"
)

// fixed is a store with fixed clients, or one that does not answer.
type fixed struct {
	Store
	list  []Client
	err   error
	reads int
}

func (f *fixed) Clients(context.Context) ([]Client, error) {
	f.reads++
	return f.list, f.err
}

func TestRegistry_RefusesClientsOfAnOldList(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	orders := Client{ID: "orders", SecretHash: HashOf("right")}
	store := &fixed{list: []Client{orders}}
	r := &Registry{
		Store: store, Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
		File: map[string]Client{"file": {ID: "file", SecretHash: HashOf("right")}},
	}
	want := func(id, secret string, want error) {
		t.Helper()
		if c, err := r.Authenticate(t.Context(), id, secret); !errors.Is(err, want) || err == nil && c.ID != id {
			t.Errorf("%s with the secret %s: %+v, %v, want %v", id, secret, c, err, want)
		}
	}
	want("orders", "right", nil) // the first request reads the list
	want("orders", "wrong", ErrUnknown)
	want("", "", ErrUnknown)
	want("file", "right", nil)
	want("file", "wrong", ErrUnknown)
	reads := store.reads
	for range 100 {
		want("nobody", "right", ErrUnknown)
	}
	if store.reads != reads {
		t.Errorf("wrong secrets within %v read the list %d times", minAge, store.reads-reads)
	}
	store.err = ErrUnavailable
	now = now.Add(maxAge - time.Second)
	want("orders", "right", nil)
	now = now.Add(time.Second)
	want("orders", "right", ErrUnavailable)
	want("file", "right", nil)
	revoked := orders
	revoked.RevokedAt = now
	store.list, store.err = []Client{revoked}, nil
	now = now.Add(minAge)
	want("orders", "right", ErrUnknown)
}

func TestMay_WriteIncludesRead(t *testing.T) {
	for _, c := range []struct{ has, wants Scope }{{AdminWrite, AdminRead}, {AdminRead, AdminRead}, {Introspect, Introspect}} {
		if client := (Client{Scopes: []Scope{c.has}}); !client.May(c.wants) {
			t.Errorf("the scope %s does not include %s", c.has, c.wants)
		}
	}
	for _, c := range []struct{ has, wants Scope }{{AdminRead, AdminWrite}, {AdminWrite, Introspect}, {Introspect, AdminRead}} {
		if client := (Client{Scopes: []Scope{c.has}}); client.May(c.wants) {
			t.Errorf("the scope %s includes %s", c.has, c.wants)
		}
	}
}
