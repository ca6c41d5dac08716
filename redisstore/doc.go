// Package redisstore keeps in Redis what a check of a token needs: it is the
// [issuer.Store] of production, on a single Redis, on Sentinel and on Cluster.
//
// # Keys
//
// All keys of a subject carry it as their hash tag, so that they live in one
// slot of a Cluster and one script may touch them together; so do all limits. Every name begins
// with [Options].Prefix, and is made in keys.go and nowhere else.
//
//	key          holds                                          expires
//	s:{sub}:sid  the session: active, with its generation,      its newest access token's exp + Margin
//	             expiry and lineage, or ended; see entry.go
//	b:{sub}:jti  "1": this token was revoked by itself          the token's exp + Margin
//	g:{sub}      the subject's generation, in decimal           the subject's newest access token's exp + Margin
//	l:{sub}      who may put back what the ledger says          issuer.LeaseTTL
//	r:{limits}:  takes of a limit: rule and a hash of whose;    when it is as if there had been none
//	  rule:id    see limiter.go
//
// Margin is [issuer.Margin]. All but the lease and the limits expire at an absolute time that
// comes from the ledger, never from this machine's clock; no key is ever
// without a time to live. The store may lose any of them at any moment: what
// is missing is unknown, and unknown is asked of the ledger. It may also go back to
// an earlier state: then every active entry is of another lineage (lineage.go), and unknown.
//
// # Who writes what
//
// PutBack alone writes an active entry and creates a generation, and only
// while it holds the lease. Apply writes ends: it deletes the lease, marks the
// session or the token, or raises a generation that is there. It does not
// create one: applied late, after a higher one had been evicted, it would bring
// back every session that the higher one had ended.
//
// # What it needs of Redis
//
// Redis 7.0 or later, or Valkey. An ACL user needs no more than
//
//	~PREFIX* +@connection -@dangerous +info +get +mget +getex +exists +set +del +pexpiretime +eval +evalsha
//
// on Cluster also +cluster|slots +asking, and for [Store.Inspect] +time +config|get,
// without which the fields that they fill stay unknown. A service that
// only checks needs
//
//	%R~PREFIXs:* %R~PREFIXb:* ~PREFIXg:* +@connection -@dangerous +info +get +mget +getex
//
// (on Cluster as above). It may read, and shorten the life of a generation, which
// costs a question to the ledger.
// Recommended: maxmemory-policy noeviction and stop-writes-on-bgsave-error no,
// since a Redis that refuses writes refuses checks too.
package redisstore
