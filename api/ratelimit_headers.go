package api

import (
	"fmt"
	"net/http"

	"github.com/sessiond/sessiond/identity/limit"
)

// setRateLimitHeaders sets RateLimit-Policy and RateLimit to what is left of the tightest limit
// that was charged (draft-ietf-httpapi-ratelimit-headers).
func setRateLimitHeaders(h http.Header, d limit.Decision) {
	q := d.Tightest
	if q.Rule == "" {
		return
	}
	h.Set("RateLimit-Policy", fmt.Sprintf("%q;q=%d;w=%d", q.Rule, q.Limit, seconds(q.Window)))
	h.Set("RateLimit", fmt.Sprintf("%q;r=%d;t=%d", q.Rule, q.Left, seconds(q.Reset)))
}
