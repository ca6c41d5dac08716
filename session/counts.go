package session

import "sync/atomic"

// Counts counts checks that needed a verdict. A token that is malformed, badly signed or expired
// does not count.
type Counts struct {
	Checks    atomic.Uint64
	Fallbacks atomic.Uint64 // the checks that the Store could not answer
}
