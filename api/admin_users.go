package api

import (
	"context"
	"encoding/base64"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session/issuer"
)

// accountBody is a user as operators see it.
type accountBody struct {
	userBody
	Status   identity.Status `json:"status"`
	Claims   jsontext.Value  `json:"claims"`
	Sessions *int64          `json:"sessions,omitzero"` // the number of active sessions; absent in lists
}

func (a *API) showAccount(u identity.User) accountBody {
	body := accountBody{userBody: a.showUser(u), Status: u.Status, Claims: jsontext.Value("{}")}
	if u.Claims != "" {
		body.Claims = jsontext.Value(u.Claims)
	}
	return body
}

type findUsersInput struct {
	Text   string `json:"q"`
	Status string `json:"status"`
	Role   string `json:"role"`
	pageInput
}

func (a *API) findUsers(q *request, in findUsersInput) (reply, error) {
	limit, err := in.size()
	if err != nil {
		return reply{}, err
	}
	query := identity.UserQuery{Status: identity.Status(in.Status), Role: in.Role, Limit: limit + 1}
	if in.Cursor != nil {
		raw, err := base64.RawURLEncoding.Strict().DecodeString(*in.Cursor)
		id, name, ok := strings.Cut(string(raw), " ")
		if err != nil || !ok || !utf8.Valid(raw) || !issuer.ValidID(id) {
			return reply{}, errCursor
		}
		query.After = identity.UserKey{Name: name, ID: id}
	}
	users, query, err := a.Users.FindUsers(q.Context(), in.Text, query)
	return ok(listOf(users, issuer.Page{Limit: query.Limit},
		func(u *identity.User) string { key := query.Key(u); return key.ID + " " + key.Name },
		func(u *identity.User) accountBody { return a.showAccount(*u) })), err
}

type createAccountInput struct {
	Username       string   `json:"username" required:"true"`
	Email          string   `json:"email" required:"true"`
	FirstName      string   `json:"first_name"`
	LastName       string   `json:"last_name"`
	Roles          []string `json:"roles"`
	SendInvitation bool     `json:"send_invitation"`
	Reason         string   `json:"reason"`
}

func (a *API) createAccount(q *request, in createAccountInput) (reply, error) {
	ctx, err := q.acting(in.Reason)
	if err != nil {
		return reply{}, err
	}
	user, err := a.Users.CreateAccount(ctx, identity.Account{
		Username: in.Username, Email: in.Email, FirstName: in.FirstName, LastName: in.LastName, Roles: in.Roles, Invite: in.SendInvitation,
	})
	if err == nil {
		q.replyHeader.Set("Location", "/v1/admin/users/"+user.ID)
	}
	return created(a.showAccount(user)), err
}

func (a *API) getAccount(q *request) (reply, error) {
	id, err := pathID(q, identity.ErrNotFound)
	if err != nil {
		return reply{}, err
	}
	user, err := a.Users.User(q.Context(), id)
	if err != nil {
		return reply{}, err
	}
	body := a.showAccount(user)
	sessions, err := a.Sessions.Count(q.Context(), issuer.Filter{Subject: id}, nil)
	body.Sessions = &sessions
	return ok(body), err
}

type updateAccountInput struct {
	FirstName *string         `json:"first_name"`
	LastName  *string         `json:"last_name"`
	Roles     *[]string       `json:"roles"`
	Claims    *jsontext.Value `json:"claims"`
	Reason    string          `json:"reason"`
}

func (a *API) updateAccount(q *request, in updateAccountInput) (reply, error) {
	change := identity.AttributeChange{Roles: in.Roles}
	if in.Claims != nil {
		change.Claims = new(string(*in.Claims))
	}
	err := a.actOn(q, in.Reason, func(ctx context.Context, id string) (int64, error) {
		return a.Users.UpdateAccount(ctx, id, identity.Profile{FirstName: in.FirstName, LastName: in.LastName}, change)
	})
	if err != nil {
		return reply{}, err
	}
	return a.getAccount(q)
}

// actOn calls do for the user of the path, and enforces the revocation that it returns, unless that is 0.
func (a *API) actOn(q *request, reason string, do func(ctx context.Context, id string) (revocation int64, err error)) error {
	id, err := pathID(q, identity.ErrNotFound)
	if err != nil {
		return err
	}
	ctx, err := q.acting(reason)
	if err != nil {
		return err
	}
	logEntryOf(q.Request).target = id
	revocation, err := do(ctx, id)
	if err != nil || revocation == 0 {
		return err
	}
	return a.Sessions.Enforce(ctx, revocation)
}

func (a *API) deleteOtherAccount(q *request, in reasonInput) (reply, error) {
	return noContent, a.actOn(q, in.Reason, a.Users.Delete)
}

type suspendInput struct {
	Reason string `json:"reason" required:"true"`
}

func (a *API) suspendAccount(q *request, in suspendInput) (reply, error) {
	return noContent, a.actOn(q, in.Reason, a.Users.Suspend)
}

func (a *API) reinstateAccount(q *request, in reasonInput) (reply, error) {
	return noContent, a.actOn(q, in.Reason, func(ctx context.Context, id string) (int64, error) { return 0, a.Users.Reinstate(ctx, id) })
}

func (a *API) sendPasswordReset(q *request, in reasonInput) (reply, error) {
	return noContent, a.actOn(q, in.Reason, func(ctx context.Context, id string) (int64, error) { return 0, a.Users.SendReset(ctx, id) })
}
