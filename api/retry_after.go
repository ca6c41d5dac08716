package api

import (
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/sessiond/sessiond/identity"
)

// retryAfter returns the header Retry-After of a 429 or 503, in seconds. The default of 2 seconds
// is long enough for a short outage to end, and short enough that few clients give up.
func retryAfter(err error) string {
	after := 2 * time.Second
	if retry := (*identity.RetryError)(nil); errors.As(err, &retry) {
		after = retry.After
	}
	return strconv.Itoa(seconds(after))
}

// seconds rounds d up. Otherwise a client that waits for that many seconds would retry too early.
func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
