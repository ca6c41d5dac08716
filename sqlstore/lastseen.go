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
	// The statement locks its rows before it writes them, and skips rows that
	// another transaction has locked. It never waits for a lock, so it is part of
	// no deadlock. The lock is the weakest that suffices.
	touchSessions = `
		WITH uses (session_id, used_at, seen_by) AS (VALUES %s), due AS MATERIALIZED (
			SELECT id, used_at FROM sessions JOIN uses ON id = session_id
			WHERE ended_at IS NULL AND expires_at > used_at AND last_seen_at <= seen_by
			ORDER BY id FOR NO KEY UPDATE OF sessions SKIP LOCKED
		)
		UPDATE sessions SET last_seen_at = due.used_at FROM due WHERE sessions.id = due.id`
)

// Touch implements [issuer.Ledger]. The statement is a transaction of its own and is sent in one
// message, so that no lock waits for the network. It accepts at most 10,000 uses.
func (s *Sessions) Touch(ctx context.Context, uses []issuer.Use) error {
	args := touchArgs(uses)
	if len(args) == 0 {
		return nil
	}
	values := strings.Repeat(", "+useValues, len(args)/3)[2:]
	err := s.db.exec(ctx, newStatement(fmt.Sprintf(touchSessions, values)), args...)
	return s.wrap(fmt.Sprintf("touch %d sessions", len(args)/3), err)
}

// touchArgs returns three values for each session, sorted by session: its id, the time
// of its latest use, and the latest value of last_seen_at that this use replaces.
func touchArgs(uses []issuer.Use) []any {
	uses = slices.Clone(uses)
	slices.SortFunc(uses, func(a, b issuer.Use) int {
		return cmp.Or(cmp.Compare(a.SessionID, b.SessionID), b.At.Compare(a.At))
	})
	uses = slices.CompactFunc(uses, func(a, b issuer.Use) bool { return a.SessionID == b.SessionID })
	args := make([]any, 0, 3*len(uses))
	for _, use := range uses {
		if wellFormed(use.SessionID) { // nothing is stored under a malformed id
			args = append(args, use.SessionID, at(use.At), at(use.At.Add(-session.SeenInterval)))
		}
	}
	return args
}
