package api

import (
	"encoding/base64"
	"errors"
	"net/http"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session/issuer"
)

// ownedSessionBody is a session as operators see it.
type ownedSessionBody struct {
	sessionBody
	UserID   string `json:"user_id"`
	Username string `json:"username"`
}

func (q *request) showOwned(s *issuer.Session) ownedSessionBody {
	return ownedSessionBody{showSession(s, q.claims.SessionID), s.Subject, s.Username}
}

// ofUser calls do with the id in the path, if there is such a user.
func (a *API) ofUser(q *request, do func(id string) (reply, error)) (reply, error) {
	id, err := pathID(q, identity.ErrNotFound)
	if err != nil {
		return reply{}, err
	}
	if _, err := a.Users.User(q.Context(), id); err != nil {
		return reply{}, err
	}
	return do(id)
}

func (a *API) listSessionsOf(q *request, p issuer.Page) (reply, error) {
	return a.ofUser(q, func(id string) (reply, error) {
		found, err := a.Sessions.Active(q.Context(), id, p)
		return ok(listOf(found, p, func(s *issuer.Session) string { return s.ID }, q.showOwned)), err
	})
}

func (a *API) listLoginsOf(q *request, p issuer.Page) (reply, error) {
	return a.ofUser(q, func(id string) (reply, error) {
		found, err := a.Sessions.History(q.Context(), id, p)
		now := a.Now()
		return ok(listOf(found, p,
			func(l *issuer.Login) string { return l.ID },
			func(l *issuer.Login) loginBody { return showLogin(l, q.claims.SessionID, now) })), err
	})
}

func (a *API) revokeSessionsOf(q *request, in reasonInput) (reply, error) {
	ctx, err := q.acting(in.Reason)
	if err != nil {
		return reply{}, err
	}
	return a.ofUser(q, func(id string) (reply, error) {
		logEntryOf(q.Request).target = id
		ended, err := a.Sessions.RevokeAll(ctx, id, "", issuer.ReasonAdministrator)
		if errors.Is(err, issuer.ErrSubjectGone) {
			err = identity.ErrNotFound
		}
		return ok(revokedBody{ended.Count}), err
	})
}

func (a *API) revokeAnySession(q *request, in reasonInput) (reply, error) {
	id, err := pathID(q, issuer.ErrNotFound)
	if err != nil {
		return reply{}, err
	}
	ctx, err := q.acting(in.Reason)
	if err != nil {
		return reply{}, err
	}
	logEntryOf(q.Request).target = id
	_, err = a.Sessions.RevokeAny(ctx, id, issuer.ReasonAdministrator)
	return noContent, err
}

// filterInput selects active sessions of all users. All fields are optional.
type filterInput struct {
	User          string `json:"user"`
	Address       string `json:"address"` // an IP address, or a network in CIDR notation
	UserAgent     string `json:"user_agent"`
	CreatedAfter  string `json:"created_after"` // RFC 3339, like the other times
	CreatedBefore string `json:"created_before"`
	SeenBefore    string `json:"seen_before"`
}

func (in *filterInput) filter() (issuer.Filter, error) {
	var errs identity.FieldErrors
	f := issuer.FilterText(*in).Parse(func(field, detail string) {
		errs = append(errs, identity.FieldError{Field: field, Code: identity.CodeInvalid, Detail: detail})
	})
	if errs != nil {
		return f, errs
	}
	return f, nil
}

type searchInput struct {
	filterInput
	pageInput
}

// searchSessions may answer a page with fewer sessions than the limit, although there are more. Only a
// missing next_cursor says that there are none.
func (a *API) searchSessions(q *request, in searchInput) (reply, error) {
	f, err := in.filter()
	if err != nil {
		return reply{}, err
	}
	p, err := in.page()
	if err != nil {
		return reply{}, err
	}
	found, next, err := a.Sessions.Search(q.Context(), f, p)
	body := listOf(found, issuer.Page{Limit: p.Limit + 1}, nil, q.showOwned)
	if next != "" {
		body.NextCursor = new(base64.RawURLEncoding.EncodeToString([]byte(next)))
	}
	return ok(body), err
}

type revokeByFilterInput struct {
	Filter *filterInput `json:"filter" required:"true"`
	DryRun bool         `json:"dry_run"`
	Reason string       `json:"reason"`
}

type matchedBody struct {
	Matched int64 `json:"matched"`
}

// bulkBody is a revocation of many sessions.
type bulkBody struct {
	ID         string           `json:"id"`
	State      issuer.BulkState `json:"state"`
	Matched    int64            `json:"matched"`
	Revoked    int64            `json:"revoked"`
	StartedAt  time.Time        `json:"started_at"`
	FinishedAt *time.Time       `json:"finished_at"`
}

func showBulk(b issuer.Bulk) bulkBody {
	return bulkBody{b.ID, b.State, b.Matched, b.Revoked, b.StartedAt, timeOrNull(b.FinishedAt)}
}

// revokeByFilter counts the sessions, or starts a revocation that a background task of some replica does.
func (a *API) revokeByFilter(q *request, in revokeByFilterInput) (reply, error) {
	f, err := in.Filter.filter()
	if err != nil {
		return reply{}, err
	}
	if f == (issuer.Filter{}) {
		return reply{}, fieldError("filter", identity.CodeRequired, "needs at least one condition; created_before with the time of now selects all sessions")
	}
	ctx, err := q.acting(in.Reason)
	if err != nil {
		return reply{}, err
	}
	if in.DryRun {
		n, err := a.Sessions.Count(ctx, f, nil)
		return ok(matchedBody{n}), err
	}
	b, err := a.Sessions.StartBulk(ctx, f, issuer.ReasonAdministrator)
	q.replyHeader.Set("Location", "/v1/admin/revocations/"+b.ID)
	return reply{http.StatusAccepted, showBulk(b)}, err
}

func (a *API) getRevocation(q *request) (reply, error) {
	id, err := pathID(q, errNotFound)
	if err != nil {
		return reply{}, err
	}
	b, err := a.Sessions.Bulk(q.Context(), id)
	return ok(showBulk(b)), err
}
