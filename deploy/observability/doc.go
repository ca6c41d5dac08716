// Package observability contains a dashboard for Grafana, and rules for Prometheus. Its only code is the
// tests, which run these files with the real Prometheus on a real service. README.md explains how to use
// the files.
package observability
