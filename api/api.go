// Package api is the service over HTTP: it reads requests, asks [session] and
// [identity], and writes answers. It holds no rule, no SQL and no Redis. All
// routes stand in routes.go, all errors in problem.go.
package api

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session/issuer"
)

// API serves the routes. Sessions, Users, PublicURL, Now, Ready and Log are
// required.
type API struct {
	Sessions *issuer.Manager
	Users    *identity.Service
	// PublicURL is where clients reach the service, without a slash at the end.
	PublicURL string
	Now       func() time.Time
	// Ready reports on each dependency by name; nil means it answers. A replica
	// is ready while the database is: signing in and checks go on without Redis.
	Ready func(context.Context) map[string]error
	Log   *slog.Logger

	// HideAccounts closes the answers of the classic routes that tell
	// whether an account exists.
	HideAccounts bool
	// ReauthMaxAge is how old a proof of identity may be for what /v1 guards
	// by it. Zero: any age.
	ReauthMaxAge time.Duration
	// TrustedProxies are believed about the client's address.
	TrustedProxies []netip.Prefix
	// CORSOrigins may call from a browser. None by default.
	CORSOrigins []string
	// Clients may introspect. Empty: nobody may.
	Clients Clients
	// Mailbox lists the mail that dev keeps instead of sending; nil elsewhere.
	Mailbox func() any
	// Metrics counts requests. Nil: not counted.
	Metrics *Metrics
}
