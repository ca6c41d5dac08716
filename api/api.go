// Package api is the HTTP interface of sessiond. It reads requests, calls the packages [issuer] and
// [identity], which hold the rules, and writes replies. The file routes.go lists all routes, and
// problem.go lists all errors.
package api

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/audit"
	"github.com/sessiond/sessiond/identity/clients"
	"github.com/sessiond/sessiond/session/issuer"
)

// API serves all routes. The fields Sessions, Users, PublicURL, Now, Ready and Log are required.
type API struct {
	// Version is the version of the program, for the OpenAPI document and its page.
	Version  string
	Sessions *issuer.Manager
	Users    *identity.Service
	// PublicURL is the URL at which clients reach the service, without a slash at the end.
	PublicURL string
	Now       func() time.Time
	// Ready returns each dependency's name with an error, or with nil if the dependency answers.
	Ready func(context.Context) map[string]error
	Log   *slog.Logger

	// ClassicRoutes says whether the classic (pre-/v1) routes are served. Empty means ClassicStrict.
	ClassicRoutes ClassicRoutes
	// If HideAccounts is true, the classic (pre-/v1) routes do not reveal whether an account exists.
	HideAccounts bool
	// ReauthMaxAge is the maximum age of the last password check for sensitive calls. Zero means no
	// limit.
	ReauthMaxAge time.Duration
	// TrustedProxies are the proxies that may report a client's IP address in ForwardedHeader.
	TrustedProxies []netip.Prefix
	// ForwardedHeader is Forwarded or, by default, XForwardedFor.
	ForwardedHeader string
	// CORSOrigins are the origins whose pages may call the service from a browser. An empty list
	// allows no other origin.
	CORSOrigins []string
	// CORSHeaders are request headers that such pages may send in addition to those of the service.
	CORSHeaders []string
	// Clients knows the machine clients, which may introspect tokens or use the routes for operators.
	Clients *clients.Registry
	// Audit has the events for operators.
	Audit audit.Store
	// Stats returns numbers for operators, which are written as JSON.
	Stats func(context.Context) (any, error)
	// AdminElsewhere says that only AdminHandler serves the routes for operators.
	AdminElsewhere bool
	// If not nil, Mailbox returns the mails that 'sessiond dev' keeps instead of sending.
	Mailbox func() any
	// If Metrics is nil, requests are not counted.
	Metrics *Metrics
	// If not nil, Route is called when a request has been answered. The method is "other" if it is
	// unknown. The pattern is the request's route with placeholders, such as /v1/sessions/{id}.
	Route func(ctx context.Context, method, pattern string)
	// If not nil, Span starts the span of a request that is not of net/http. The function header returns
	// the values of a header of the request. The function that Span returns ends the span.
	Span func(ctx context.Context, header func(name string) []string) (context.Context, func(status int))

	warnUnreadable sync.Once
}

// ClassicRoutes says whether the classic routes are served, and whether they protect a user whose
// access token was stolen.
type ClassicRoutes string

// These are the values of ClassicRoutes.
const (
	ClassicStrict ClassicRoutes = "strict" // sensitive calls need a recent sign-in or the password
	ClassicOn     ClassicRoutes = "on"     // sensitive calls need only an access token
	ClassicOff    ClassicRoutes = "off"    // the routes do not exist
)
