// Package redisstore stores sessions and revocations in Redis, where every check of an access token
// reads them. It implements [issuer.Store] on a single Redis, on Sentinel and on Cluster.
//
// # Keys
//
// All keys of a subject (a user) have the subject as their hash tag. They therefore live in one
// slot of a Cluster, where one script may change them together. The keys of all rate limits share a
// hash tag for the same reason. Every key begins with [Options].Prefix. The code is in keys.go.
//
//	key          holds                                          expires
//	s:{sub}:sid  the session: active, with its generation,      its newest access token's exp + Margin
//	             expiry and epoch, or ended; see entry.go
//	b:{sub}:jti  "1": this token was revoked by itself          the token's exp + Margin
//	g:{sub}      the subject's generation, in decimal           the subject's newest access token's exp + Margin
//	l:{sub}      the lease that all sessions of the subject     issuer.LeaseTTL
//	             share while they are read from the ledger
//	l:{sub}:sid  the lease of the replica that may backfill     issuer.LeaseTTL
//	             this session
//	r:{limits}:  the bucket or backoff counter of a rate        when it no longer limits anything
//	  rule:id    limit; see limiter.go
//
// Margin is [issuer.Margin]. Keys of sessions, tokens and generations expire at an absolute time
// from the ledger, so this machine's clock does not matter. Every key has a time to live.
//
// # What Redis may lose
//
// Redis may lose any key at any moment. If a key is missing, the session is unknown and the ledger
// decides. Redis may also return to an earlier state, or another server may have taken over. The
// ledger numbers the epochs in which one server counts ([session.Epochs]). An active entry of
// another epoch counts as missing.
//
// # Who writes what
//
// Only Backfill writes an active entry or creates a generation, and only while the caller holds
// both leases. Apply enforces revocations: it deletes the subject's lease and then marks the session or the token,
// or raises an existing generation. Apply never creates a missing generation. After an eviction, a
// delayed Apply could otherwise restore a lower one and revive revoked sessions.
//
// # Requirements
//
// The store needs Redis 7.0 or later, or Valkey; tests run on Redis 7.0 and 8.0 and on Valkey 8.1. Its ACL user needs
//
//	~PREFIX* +@connection -@dangerous +info +get +mget +getex +exists +set +del +pexpiretime +eval +evalsha
//
// On Cluster add +cluster|slots +asking. [Store.Inspect] also uses +time +config|get. Without these
// permissions it leaves the fields empty that it cannot read. A service that only checks tokens
// needs
//
//	%R~PREFIXs:* %R~PREFIXb:* ~PREFIXg:* +@connection -@dangerous +info +get +mget +getex
//
// and the same additions on Cluster. Such a user cannot revoke or restore sessions. It can only
// read, and make a generation expire early, after which one check has to ask the ledger.
//
// The recommended settings are maxmemory-policy noeviction and stop-writes-on-bgsave-error no,
// because a Redis that refuses writes also refuses checks.
package redisstore
