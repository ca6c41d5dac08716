package issuer

import (
	"errors"
	"sync"
	"time"

	"github.com/sessiond/sessiond/session"
)

// outageGap parts two outages: a ledger that has not failed for so long was back.
const outageGap = 10 * time.Second

// outage is when the ledger could not be reached, the last time that it could not.
// The zero value: never. It hears of the replica's own questions alone: who holds a
// refresh token can make requests fail, and must not prolong their grace by it.
type outage struct {
	mu          sync.Mutex
	began, last time.Time
}

// note hears what a question to the ledger came to.
func (o *outage) note(err error, now time.Time) {
	if !errors.Is(err, session.ErrUnavailable) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.last) > outageGap {
		o.began = now
	}
	if now.After(o.last) {
		o.last = now
	}
}

// hid tells whether an outage began within grace of then, and kept whoever asked
// again from being answered until less than grace ago.
func (o *outage) hid(then, now time.Time, grace time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.began.Before(then.Add(grace)) && !then.After(o.last) && now.Before(o.last.Add(grace))
}
