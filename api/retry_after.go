package api

import (
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/sessiond/sessiond/identity"
)

// retryAfter returns the Retry-After header of a 429 or 503, in seconds. Without a time in err it
// is 2 seconds: long enough for a store to come back, and short enough that no client gives up.
func retryAfter(err error) string {
	after := 2 * time.Second
	if retry := (*identity.RetryError)(nil); errors.As(err, &retry) {
		after = retry.After
	}
	return strconv.Itoa(seconds(after))
}

// seconds rounds up, because a client that waits for them must not be too early.
func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
