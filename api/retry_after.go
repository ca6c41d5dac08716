package api

import (
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/sessiond/sessiond/identity"
)

// retryAfter returns the Retry-After header of a 429 or 503, in seconds. If err does not tell a
// time, the header is 2 seconds. In that time a store may have recovered, and few clients give up.
func retryAfter(err error) string {
	after := 2 * time.Second
	if retry := (*identity.RetryError)(nil); errors.As(err, &retry) {
		after = retry.After
	}
	return strconv.Itoa(seconds(after))
}

// seconds rounds d up. Otherwise a client that waits for that many seconds would retry too early.
func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
