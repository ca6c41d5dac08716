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
	return func(q *request) (rep reply, err error) {
		err = a.admit(q, action, "", func() (err error) {
			rep, err = h(q)
			return err
		})
		return rep, err
	}
}

// admit does what may be done only so often. What an outage or a full queue kept from
// being done does not count, or whoever tries again as told is refused for it later.
func (a *API) admit(q *request, action, email string, do func() error) error {
	giveBack, err := a.Users.Admit(q.Context(), action, email, origin(q))
	if err != nil {
		return err
	}
	if err = do(); err != nil {
		switch problem(err, nil).Code {
		case "unavailable", "busy":
			giveBack(q.Context())
		}
	}
	return err
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
