package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/sessiond/sessiond/session"
)

// Measures are numbers about the content of the database. Reading them takes the same time however many
// rows there are.
type Measures struct {
	Revocations, Mails Waiting // in the outbox
	// Sessions is about how many sessions are active, and Users about how many users may sign in. On
	// Postgres they are what its planner expects, by the statistics of the latest ANALYZE. Sessions also has
	// those that ended because all sessions of their user did, until they expire. On SQLite they are counts.
	Sessions, Users float64
}

// Waiting says what waits in the outbox.
type Waiting struct {
	Length int       // MaxWaiting at most
	Oldest time.Time // when the oldest one was queued; zero if none waits
}

// MaxWaiting is the largest Length of [Waiting]. Otherwise counting could take long after an outage.
const MaxWaiting = 10_000

var (
	waiting = newStatement(`
		SELECT count(*) AS length, min(queued_at) AS oldest
		FROM (SELECT queued_at FROM outbox WHERE topic = ? ORDER BY queued_at LIMIT ` + strconv.Itoa(MaxWaiting) + `) AS waiting`)

	planSessions  = newStatement(`EXPLAIN (FORMAT JSON) SELECT FROM sessions WHERE ended_at IS NULL AND expires_at > now()`)
	planUsers     = newStatement(`EXPLAIN (FORMAT JSON) SELECT FROM users WHERE status = 'active'`)
	countSessions = newStatement(`SELECT count(*) FROM sessions WHERE ended_at IS NULL AND expires_at > ?`)
	countUsers    = newStatement(`SELECT count(*) FROM users WHERE status = 'active'`)
)

// Measure reads the Measures. It returns [session.ErrUnavailable] if the database does not answer.
func (db *DB) Measure(ctx context.Context, now time.Time) (m Measures, err error) {
	for topic, w := range map[string]*Waiting{topicRevocation: &m.Revocations, topicEarlier: &m.Revocations, topicMail: &m.Mails} {
		var row struct {
			Length int
			Oldest timestamp
		}
		if err := db.get(ctx, &row, nil, waiting, topic); err != nil {
			return m, wrap("measure the outbox", session.ErrUnavailable, err)
		}
		w.Length = min(w.Length+row.Length, MaxWaiting)
		if oldest := row.Oldest.Time; w.Oldest.IsZero() || !oldest.IsZero() && oldest.Before(w.Oldest) {
			w.Oldest = oldest
		}
	}
	if db.dialect == &sqlite {
		if err = db.get(ctx, &m.Sessions, nil, countSessions, at(now)); err == nil {
			err = db.get(ctx, &m.Users, nil, countUsers)
		}
	} else if m.Sessions, err = db.plannedRows(ctx, planSessions); err == nil {
		m.Users, err = db.plannedRows(ctx, planUsers)
	}
	return m, wrap("estimate the number of sessions and users", session.ErrUnavailable, err)
}

// plannedRows returns how many rows Postgres expects a query to return.
func (db *DB) plannedRows(ctx context.Context, explain *statement) (float64, error) {
	var text string
	if err := db.get(ctx, &text, nil, explain); err != nil {
		return 0, err
	}
	var plans [1]struct {
		Plan struct {
			Rows float64 `json:"Plan Rows"`
		}
	}
	if err := json.Unmarshal([]byte(text), &plans); err != nil {
		return 0, fmt.Errorf("sqlstore: read a query plan: %w", err)
	}
	return plans[0].Plan.Rows, nil
}

// Pools returns the pools of connections by name, for their statistics: "main", and on Postgres also
// "epochs".
func (db *DB) Pools() map[string]*sql.DB {
	pools := map[string]*sql.DB{"main": db.sql.DB}
	if db.epochs != nil {
		pools["epochs"] = db.epochs.sql.DB
	}
	return pools
}

// PoolTimeouts returns how many method calls have failed so far, because no connection became free in
// time. See Options.PoolTimeout.
func (db *DB) PoolTimeouts() uint64 { return db.poolTimeouts.Load() }
