// Package httpsuite tests sessiond over HTTP, as clients use it. Most tests run twice: against
// `sessiond dev` in the test's own process, where the race detector checks it, and against
// `sessiond serve` as a process of its own on real Postgres and Redis servers.
package httpsuite
