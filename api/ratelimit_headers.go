package api

import (
	"fmt"
	"net/http"

	"github.com/sessiond/sessiond/identity/limit"
)

// setRateLimitHeaders sets the headers RateLimit-Policy and RateLimit. They describe the charged
// limit that has the fewest requests left (draft-ietf-httpapi-ratelimit-headers).
func setRateLimitHeaders(h http.Header, d limit.Decision) {
	q := d.Tightest
	if q.Rule == "" {
		return
	}
	h.Set("RateLimit-Policy", fmt.Sprintf("%q;q=%d;w=%d", q.Rule, q.Limit, seconds(q.Window)))
	h.Set("RateLimit", fmt.Sprintf("%q;r=%d;t=%d", q.Rule, q.Left, seconds(q.Reset)))
}
