// Package ext stands in for a module in a folder of Traefik's repository, which no module proxy can serve
// under its name. It has the types through which a vendor can extend Traefik's configuration.
package ext

// HTTP adds nothing to the configuration of HTTP.
type HTTP struct{}

// Router adds nothing to the configuration of a router.
type Router struct{}
