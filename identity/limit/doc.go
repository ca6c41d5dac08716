// Package limit bounds how often clients may guess passwords, register or make the server send mail.
//
// Each action is charged to one or more counters, for example to one of the client address and one of
// the account. If any counter allows no charge now, the action is refused and no counter is charged.
// If an action fails because of the server, the charge is refunded. The file actions.go has the rules,
// and counter.go the algorithm. A [Limiter] stores the counters: a [Local] in this process's memory,
// and package redisstore in Redis, where all replicas of the server share them.
package limit
