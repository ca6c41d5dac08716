// Package faultsuite proves from outside that no single fault revives a revoked session and that
// none signs anybody out. It runs three replicas of `sessiond serve` behind HAProxy, on real
// Postgres and Redis servers, and breaks one thing at a time while clients sign in, refresh, revoke
// and check.
//
// One process records every request with its monotonic clock. The history of each session is judged
// by direct counts and by porcupine. Every acknowledged revocation is also checked at once at every
// replica, because samples would miss a window of less than a second.
//
// The suite is proven itself: seeded_test.go puts bugs into the program, and rows must find them.
//
// The table in faults_test.go lists every fault by its number. A fault's code is in the file of its
// kind, such as redis_faults_test.go. deploy/docs/revocation-proof.md says how to run the suite at
// length and what it found.
package faultsuite
