// Package api serves the service over HTTP. It reads requests, calls [session] and [identity], and
// writes replies. It holds no rules, no SQL and no Redis. All routes are in routes.go, all errors
// in problem.go, and what the classic routes and /v1 share in actions.go.
package api

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session/issuer"
)

// API serves the routes. Sessions, Users, PublicURL, Now, Ready and Log are required.
type API struct {
	Sessions *issuer.Manager
	Users    *identity.Service
	// PublicURL is the URL at which clients reach the service, without a slash at the end.
	PublicURL string
	Now       func() time.Time
	// Ready returns the state of each dependency by its name: nil if the dependency answers.
	// A replica is ready while the database answers, because login and checks work without Redis.
	Ready func(context.Context) map[string]error
	Log   *slog.Logger

	// HideAccounts makes the classic routes answer alike whether or not an account exists.
	HideAccounts bool
	// ReauthMaxAge is the maximum age of the last password check for sensitive /v1 calls.
	// Zero means no limit.
	ReauthMaxAge time.Duration
	// TrustedProxies may report the client's address in X-Forwarded-For.
	TrustedProxies []netip.Prefix
	// CORSOrigins are the origins that may call the service from a browser. None by default.
	CORSOrigins []string
	// Clients may introspect tokens. If it is empty, nobody may.
	Clients Clients
	// Mailbox lists the mail that the command dev keeps instead of sending it. Nil elsewhere.
	Mailbox func() any
	// Metrics counts requests. Nil turns counting off.
	Metrics *Metrics
}
