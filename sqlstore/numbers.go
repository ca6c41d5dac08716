package sqlstore

import (
	"context"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session/issuer"
)

// maxCounted bounds the exact counts of [Numbers], because a count reads each row.
const maxCounted = 10_000

// Numbers has numbers for operators. It takes the same time however large the tables are.
type Numbers struct {
	// Users and Sessions are the database's own estimates of the users and the sessions that have not ended.
	// A session that expired counts until its row is removed.
	Users    int64 `json:"users"`
	Sessions int64 `json:"sessions"`
	// The other numbers are exact up to 10,000, which means as many or more.
	Pending      int64 `json:"users_pending"`
	Suspended    int64 `json:"users_suspended"`
	Logins       int64 `json:"logins_last_hour"`
	FailedLogins int64 `json:"failed_logins_last_hour"`
	Revocations  int64 `json:"revocations_waiting"` // not enforced yet
	Mails        int64 `json:"mails_waiting"`
	Events       int64 `json:"events"` // the number of the last sealed event
}

var exactNumbers = newStatement(`SELECT
	(SELECT count(*) FROM (SELECT 1 FROM users WHERE status = 'pending' LIMIT :most) AS t) AS pending,
	(SELECT count(*) FROM (SELECT 1 FROM users WHERE status = 'suspended' LIMIT :most) AS t) AS suspended,
	(SELECT count(*) FROM (SELECT 1 FROM sessions WHERE id > :since LIMIT :most) AS t) AS logins,
	(SELECT count(*) FROM (SELECT 1 FROM login_attempts WHERE id > :since LIMIT :most) AS t) AS failed_logins,
	(SELECT count(*) FROM (SELECT 1 FROM outbox WHERE topic IN ('` + topicRevocation + `', '` + topicEarlier + `') LIMIT :most) AS t) AS revocations,
	(SELECT count(*) FROM (SELECT 1 FROM outbox WHERE topic = '` + topicMail + `' LIMIT :most) AS t) AS mails,
	(SELECT number FROM event_chain) AS events`)

// Numbers returns numbers for operators. It returns [identity.ErrUnavailable] if the database does not answer.
func (db *DB) Numbers(ctx context.Context, now time.Time) (Numbers, error) {
	var s, estimate Numbers
	err := db.get(ctx, &s, nil, exactNumbers, struct {
		Most  int
		Since string
	}{maxCounted, issuer.NewTimedID(now.Add(-time.Hour))})
	if err == nil {
		err = db.get(ctx, &estimate, nil, db.dialect.estimates)
	}
	s.Users, s.Sessions = estimate.Users, estimate.Sessions
	return s, wrap("read numbers", identity.ErrUnavailable, err)
}
