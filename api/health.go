package api

import (
	"net/http"
)

type healthBody struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks,omitzero"`
}

// live says that the process serves; it asks nobody.
func live(*request) (reply, error) { return ok(healthBody{Status: "ok"}) }

// ready says whether to send requests here. Only the database decides: without
// it nothing can be promised, and without Redis everything but ending a session
// still works, so that taking every replica out for it would sign people out of
// their applications. Causes go to the log: this route is open to all.
func (a *API) ready(q *request) (reply, error) {
	body := healthBody{Status: "ok", Checks: map[string]string{}}
	status := http.StatusOK
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
	rep := reply{status: status, body: body}
	if status != http.StatusOK {
		body.Status = "unavailable"
		rep.body, rep.header = body, http.Header{"Retry-After": {retryAfter(nil)}}
	}
	return rep, nil
}

func (a *API) devMail(*request) (reply, error) { return ok(a.Mailbox()) }
