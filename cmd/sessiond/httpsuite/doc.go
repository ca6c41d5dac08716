// Package httpsuite tests sessiond from outside, over HTTP. Most tests run twice: against
// `sessiond dev` in the test's own process, where the race detector sees it, and against
// `sessiond serve` as real processes on real Postgres and Redis servers.
package httpsuite
