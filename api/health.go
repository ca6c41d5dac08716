package api

import "net/http"

type healthBody struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks,omitzero"`
}

// getLiveness says that the process answers requests. It asks no dependency.
func (a *API) getLiveness(*request) (reply, error) { return ok(healthBody{Status: "ok"}), nil }

// getReadiness says whether a load balancer may send requests to this replica. Only the database
// decides. Without Redis everything except revocation still works, and if every replica were taken
// out of service for it, people would be signed out of their applications. Causes go to the log,
// because this route is open to all.
func (a *API) getReadiness(q *request) (reply, error) {
	status := http.StatusOK
	body := healthBody{Status: "ok", Checks: map[string]string{}}
	for name, err := range a.Ready(q.Context()) {
		body.Checks[name] = "ok"
		if err == nil {
			continue
		}
		a.Log.WarnContext(q.Context(), "not ready", "dependency", name, "error", err)
		body.Checks[name], body.Status = "unavailable", "degraded"
		if name != "redis" {
			status = http.StatusServiceUnavailable
		}
	}
	if status != http.StatusOK {
		body.Status = "unavailable"
		q.replyHeader.Set("Retry-After", retryAfter(nil))
	}
	return reply{status, body}, nil
}
