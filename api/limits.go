package api

import (
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/sessiond/sessiond/identity/limit"
)

// limited serves a route whose callers may do something only so often.
func (a *API) limited(action string, h handler) handler {
	return func(q *request) (reply, error) {
		if err := a.Users.Admit(q.Context(), action, "", origin(q)); err != nil {
			return reply{}, err
		}
		return h(q)
	}
}

// quotaHeaders says how much is left of what limits the route, in the fields of
// draft-ietf-httpapi-ratelimit-headers.
func quotaHeaders(h http.Header, d limit.Decision) {
	q := d.Tightest
	if q.Rule == "" {
		return
	}
	h["Ratelimit-Policy"] = []string{fmt.Sprintf("%q;q=%d;w=%d", q.Rule, q.Limit, seconds(q.Window))}
	h["Ratelimit"] = []string{fmt.Sprintf("%q;r=%d;t=%d", q.Rule, q.Left, seconds(q.Reset))}
}

// seconds rounds up: who comes back after so many is not too early.
func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
