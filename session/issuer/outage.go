package issuer

import (
	"errors"
	"sync"
	"time"

	"github.com/sessiond/sessiond/session"
)

// outageGap separates two outages. After that long without a failure, the ledger was back.
const outageGap = 10 * time.Second

// outage is the latest time span in which this replica could not reach the ledger. The zero value
// means that there was none. Only the replica's own polls count, and not requests. The holder of a
// refresh token can make requests fail, and must not extend the token's grace that way.
type outage struct {
	mu          sync.Mutex
	began, last time.Time
}

// observe records the result of a poll of the ledger.
func (o *outage) observe(err error, now time.Time) {
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

// extendsGrace reports whether an outage began within the grace of a rotation and ended less than
// grace ago.
func (o *outage) extendsGrace(rotated, now time.Time, grace time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.began.Before(rotated.Add(grace)) && !rotated.After(o.last) && now.Before(o.last.Add(grace))
}
