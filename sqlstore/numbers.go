package sqlstore

import (
	"context"
	"time"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// Numbers are for operators. All but Users, Sessions and Events are exact up to [MaxWaiting], which means as many
// or more, because a count reads each row.
type Numbers struct {
	Users        int64 `json:"users"`    // as in [Measures]
	Sessions     int64 `json:"sessions"` // as in [Measures]
	Pending      int64 `json:"users_pending"`
	Suspended    int64 `json:"users_suspended"`
	Logins       int64 `json:"logins_last_hour"`
	FailedLogins int64 `json:"failed_logins_last_hour"`
	Revocations  int64 `json:"revocations_waiting"` // not enforced yet
	Mails        int64 `json:"mails_waiting"`
	Events       int64 `json:"events"` // the number of the last sealed event
}

var countNumbers = newStatement(`SELECT
	(SELECT count(*) FROM (SELECT 1 FROM users WHERE status = 'pending' LIMIT :most) AS t) AS pending,
	(SELECT count(*) FROM (SELECT 1 FROM users WHERE status = 'suspended' LIMIT :most) AS t) AS suspended,
	(SELECT count(*) FROM (SELECT 1 FROM sessions WHERE id > :since LIMIT :most) AS t) AS logins,
	(SELECT count(*) FROM (SELECT 1 FROM login_attempts WHERE id > :since LIMIT :most) AS t) AS failed_logins,
	(SELECT number FROM event_chain) AS events`)

// Numbers returns numbers for operators. It takes the same time however large the tables are. It returns
// [session.ErrUnavailable] if the database does not answer.
func (db *DB) Numbers(ctx context.Context, now time.Time) (n Numbers, err error) {
	err = db.get(ctx, &n, nil, countNumbers, struct {
		Most  int
		Since string
	}{MaxWaiting, issuer.NewTimedID(now.Add(-time.Hour))})
	var m Measures
	if err == nil {
		m, err = db.Measure(ctx, now)
	}
	n.Users, n.Sessions = int64(m.Users), int64(m.Sessions)
	n.Revocations, n.Mails = int64(m.Revocations.Length), int64(m.Mails.Length)
	return n, wrap("read numbers", session.ErrUnavailable, err)
}
