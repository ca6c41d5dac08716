// Package limit bounds how often clients may do what costs or risks something: guess passwords,
// register, cause mail.
//
// An action is charged to one or several buckets, for example one for the client's address and one for
// the account. If any bucket is empty, the action is refused and no bucket is charged. An action that
// came to nothing is refunded. The rules are in actions.go. counter.go has the pure algorithm. A
// [Limiter] stores the counters: [Local] in memory, and package redisstore for all replicas.
package limit
