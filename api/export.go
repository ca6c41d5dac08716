package api

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// exportPage is the number of logins or events that exportMe reads at once.
const exportPage = 500

// exportMe sends everything that is stored about the signed-in user. It sends the history page by page,
// because the history of a user may be too long for the memory.
func (a *API) exportMe(w http.ResponseWriter, r *http.Request) error {
	claims, err := a.authenticate(r)
	if err != nil {
		return err
	}
	out := &exportResponse{ResponseWriter: w}
	err = a.export(r.Context(), claims, jsontext.NewEncoder(out, json.Deterministic(true)))
	if err == nil || !out.started {
		return err
	}
	entry := logEntryOf(r)
	entry.level, entry.err = slog.LevelError, err
	panic(http.ErrAbortHandler) // otherwise the client would not notice that the document has no end
}

// exportResponse sets the header of a successful response at the first byte.
type exportResponse struct {
	http.ResponseWriter
	started bool
}

func (w *exportResponse) Write(b []byte) (int, error) {
	if !w.started {
		w.started = true
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Content-Disposition", `attachment; filename="sessiond-export.json"`)
	}
	return w.ResponseWriter.Write(b)
}

type exportedLogin struct {
	loginBody
	TokenID         string     `json:"token_id"`
	AMR             string     `json:"amr"`
	AuthTime        *time.Time `json:"auth_time"`
	AccessExpiresAt *time.Time `json:"access_expires_at"`
	MaxExpiresAt    *time.Time `json:"max_expires_at"`
}

type exportedEvent struct {
	At        time.Time `json:"at"`
	Type      string    `json:"type"`
	SessionID string    `json:"session_id"`
	Actor     string    `json:"actor"`
	Detail    string    `json:"detail"`
	Before    string    `json:"before"`
	After     string    `json:"after"`
	Reason    string    `json:"reason"`
}

type exportedLink struct {
	Purpose   identity.Purpose `json:"purpose"`
	IssuedAt  time.Time        `json:"issued_at"`
	ExpiresAt time.Time        `json:"expires_at"`
}

type exportedUndo struct {
	Email     string     `json:"email"`
	ChangedAt time.Time  `json:"changed_at"`
	ExpiresAt time.Time  `json:"expires_at"`
	UsedAt    *time.Time `json:"used_at"`
}

type exportedMail struct {
	Kind     mail.Kind `json:"kind"`
	To       string    `json:"to"`
	QueuedAt time.Time `json:"queued_at"`
}

func (a *API) export(ctx context.Context, claims session.Claims, enc *jsontext.Encoder) error {
	user, err := a.Users.User(ctx, claims.Subject)
	if err != nil {
		return err
	}
	links, mails, err := a.Users.Store.MailsOf(ctx, user.ID)
	if err != nil {
		return err
	}
	undos, err := a.Users.Store.UndosOf(ctx, user.ID)
	if err != nil {
		return err
	}
	now := a.Now()
	e := &exporter{enc: enc}
	e.token(jsontext.BeginObject)
	e.member("exported_at", now)
	e.member("user", a.showUser(user))
	e.member("claims", jsontext.Value(cmp.Or(user.Claims, "{}")))
	e.member("email_verified_at", timeOrNull(user.EmailVerifiedAt))
	e.member("updated_at", user.UpdatedAt)
	e.member("earlier_emails", each(undos, func(u identity.Undo) exportedUndo {
		return exportedUndo{u.Email, u.ChangedAt, u.ExpiresAt, timeOrNull(u.UsedAt)}
	}))
	e.member("mailed_links", each(links, func(l identity.MailedToken) exportedLink { return exportedLink(l) }))
	e.member("queued_mails", each(mails, func(m mail.Envelope) exportedMail { return exportedMail{m.Kind, m.To, m.QueuedAt} }))
	page := issuer.Page{Limit: exportPage}
	e.pages("logins", func() (int, error) {
		logins, err := a.Sessions.History(ctx, user.ID, page)
		for i := range logins {
			e.value(showExported(&logins[i], claims.SessionID, now))
			page.Before = logins[i].ID
		}
		return len(logins), err
	})
	var after int64
	e.pages("events", func() (int, error) {
		events, err := a.Users.Store.EventsOf(ctx, user.ID, after, exportPage)
		for _, v := range events {
			e.value(exportedEvent{v.At, v.Type, v.SessionID, v.Actor, v.Detail, v.Before, v.After, v.Reason})
			after = v.Seq
		}
		return len(events), err
	})
	e.token(jsontext.EndObject)
	return e.err
}

func showExported(l *issuer.Login, current string, now time.Time) exportedLogin {
	b := showLogin(l, current, now)
	b.UserAgent = l.UserAgent // also that of a failed login, because the export holds everything that is stored
	return exportedLogin{
		loginBody: b, TokenID: l.TokenID, AMR: l.AMR,
		AuthTime: timeOrNull(l.AuthTime), AccessExpiresAt: timeOrNull(l.AccessExpiresAt), MaxExpiresAt: timeOrNull(l.MaxExpiresAt),
	}
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func each[S, T any](list []S, show func(S) T) []T {
	shown := make([]T, len(list))
	for i, item := range list {
		shown[i] = show(item)
	}
	return shown
}

// exporter writes JSON until the first error.
type exporter struct {
	enc *jsontext.Encoder
	err error
}

func (e *exporter) token(t jsontext.Token) {
	if e.err == nil {
		e.err = e.enc.WriteToken(t)
	}
}

func (e *exporter) value(v any) {
	if e.err == nil {
		e.err = json.MarshalEncode(e.enc, v)
	}
}

func (e *exporter) member(name string, v any) {
	e.token(jsontext.String(name))
	e.value(v)
}

// pages writes an array. It calls page, which writes some elements, until a page is not full.
func (e *exporter) pages(name string, page func() (int, error)) {
	e.token(jsontext.String(name))
	e.token(jsontext.BeginArray)
	for n := exportPage; e.err == nil && n == exportPage; {
		var err error
		if n, err = page(); e.err == nil {
			e.err = err
		}
	}
	e.token(jsontext.EndArray)
}
