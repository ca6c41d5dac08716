package api

import (
	"encoding/json"
	"strconv"

	"github.com/sessiond/sessiond/identity/audit"
	"github.com/sessiond/sessiond/session/issuer"
)

type listEventsInput struct {
	After string  `json:"after"`
	Type  string  `json:"type"`
	User  string  `json:"user"`
	Limit *string `json:"limit"`
}

// listEvents lists audit events, oldest first, once they are sealed, about a second after the act. The parameter
// after and next_cursor are numbers of events.
func (a *API) listEvents(q *request, in listEventsInput) (reply, error) {
	limit, err := (&pageInput{Limit: in.Limit}).size()
	if err != nil {
		return reply{}, err
	}
	query := audit.Query{Type: in.Type, UserID: in.User, Limit: limit}
	if in.After != "" {
		if query.After, err = strconv.ParseInt(in.After, 10, 64); err != nil || query.After < 0 {
			return reply{}, fieldError("after", "invalid", "must be the number of an event")
		}
	}
	events, err := a.Audit.Events(q.Context(), query)
	body := listOf(events, issuer.Page{Limit: limit + 1}, nil, func(e *audit.Event) json.RawMessage { return e.JSON() })
	if len(events) == limit {
		body.NextCursor = new(strconv.FormatInt(events[limit-1].Number, 10))
	}
	return ok(body), err
}

func (a *API) getStats(q *request) (reply, error) {
	stats, err := a.Stats(q.Context())
	return ok(stats), err
}
