package sqlstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

const (
	useValues = `(?, ?::timestamptz, ?::timestamptz)`
	// touchSessions never waits for a lock, because it skips rows that another transaction has
	// locked. Therefore it cannot be part of a deadlock. NO KEY UPDATE is the weakest sufficient
	// lock.
	touchSessions = `
		WITH uses (session_id, used_at, seen_by) AS (VALUES %s), due AS MATERIALIZED (
			SELECT id, used_at FROM sessions JOIN uses ON id = session_id
			WHERE ended_at IS NULL AND expires_at > used_at AND last_seen_at <= seen_by
				AND generation = (SELECT token_gen FROM users WHERE users.id = user_id)
			ORDER BY id FOR NO KEY UPDATE OF sessions SKIP LOCKED
		)
		UPDATE sessions SET last_seen_at = due.used_at FROM due WHERE sessions.id = due.id`
)

// Touch implements [issuer.Ledger]. It runs one statement without a transaction. Otherwise rows would
// stay locked during a network round trip. One call accepts at most 10,000 uses.
func (s *Sessions) Touch(ctx context.Context, uses []issuer.Use) error {
	args := touchArgs(uses)
	if len(args) == 0 {
		return nil
	}
	values := strings.Repeat(", "+useValues, len(args)/3)[2:]
	err := s.db.exec(ctx, newStatement(fmt.Sprintf(touchSessions, values)), args...)
	return s.wrap(fmt.Sprintf("touch %d sessions", len(args)/3), err)
}

// touchArgs returns three SQL parameters for each session, sorted by the session's id: the id, the
// time of the latest use, and the newest stored last_seen_at that this time may overwrite.
func touchArgs(uses []issuer.Use) []any {
	uses = slices.Clone(uses)
	slices.SortFunc(uses, func(a, b issuer.Use) int {
		return cmp.Or(cmp.Compare(a.SessionID, b.SessionID), b.At.Compare(a.At))
	})
	uses = slices.CompactFunc(uses, func(a, b issuer.Use) bool { return a.SessionID == b.SessionID })
	args := make([]any, 0, 3*len(uses))
	for _, use := range uses {
		if wellFormed(use.SessionID) { // skip a malformed id, because no session has such an id
			args = append(args, use.SessionID, at(use.At), at(use.At.Add(-session.SeenInterval)))
		}
	}
	return args
}
