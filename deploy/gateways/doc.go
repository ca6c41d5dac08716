// Package gateways holds configuration files for gateways that ask sessiond who
// sends a request before they pass it on. It has no code but the tests, which run
// these very files with the real programs; README.md says how to use them.
package gateways
