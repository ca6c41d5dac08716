package issuer

import (
	"errors"
	"sync"
	"time"

	"github.com/sessiond/sessiond/session"
)

// outageGap is the time without a failed poll of the ledger that separates two outages.
const outageGap = 10 * time.Second

// outage is the latest time span in which this replica could not reach the ledger. The zero value
// means that there was none. Only the replica's own polls count. If failed requests counted, the
// holder of a refresh token could make requests fail to extend the token's grace period.
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

// extendsGrace reports whether an outage began within the grace period of a refresh and ended less
// than one grace period ago. The parameter rotated is the time of the refresh.
func (o *outage) extendsGrace(rotated, now time.Time, grace time.Duration) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.began.Before(rotated.Add(grace)) && !rotated.After(o.last) && now.Before(o.last.Add(grace))
}
