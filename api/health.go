package api

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/sessiond/sessiond/session"
)

type healthBody struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks,omitzero"`
}

// getLiveness answers 200 whenever the process runs. It checks neither the database nor Redis.
func (a *API) getLiveness(*request) (reply, error) { return ok(healthBody{Status: "ok"}), nil }

// getReadiness tells a load balancer whether to send requests to this replica. It answers 200 even
// if Redis is down, because everything except revocation works without Redis. Only the log shows
// the causes of a 503, because everybody may call this route.
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
		if name == "database" {
			status = http.StatusServiceUnavailable
		}
	}
	if status != http.StatusOK {
		body.Status = "unavailable"
		q.replyHeader.Set("Retry-After", retryAfter(nil))
	}
	return reply{status, body}, nil
}

// Waiting returns the handler of a replica that still waits for its database. Only /livez answers 200.
func Waiting() http.Handler {
	a := &API{
		Ready: func(context.Context) map[string]error { return map[string]error{"database": session.ErrUnavailable} },
		Log:   slog.New(slog.DiscardHandler), // otherwise each request would add a line to the log
	}
	unavailable := func(*request) (reply, error) { return reply{}, session.ErrUnavailable }
	mux := http.NewServeMux()
	mux.Handle("GET /livez", a.serve(a.getLiveness, a.writeProblem(nil, false)))
	mux.Handle("GET /readyz", a.serve(a.getReadiness, a.writeProblem(nil, false)))
	mux.Handle("/oauth/", a.serve(unavailable, a.writeOAuthError))
	mux.Handle("/", a.serve(unavailable, a.writeProblem(nil, true)))
	return mux
}
