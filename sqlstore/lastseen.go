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
	// The rows are locked before they are written, so that a session which
	// somebody else holds is passed over instead of waited for: who waits for
	// nobody is part of no deadlock. The lock is the weakest that suffices.
	touchSessions = `
		WITH uses (session_id, used_at, seen_by) AS (VALUES %s), due AS MATERIALIZED (
			SELECT id, used_at FROM sessions JOIN uses ON id = session_id
			WHERE ended_at IS NULL AND expires_at > used_at AND last_seen_at <= seen_by
			ORDER BY id FOR NO KEY UPDATE OF sessions SKIP LOCKED
		)
		UPDATE sessions SET last_seen_at = due.used_at FROM due WHERE sessions.id = due.id`
)

// Touch implements [issuer.Ledger]. The statement is its own transaction and goes
// out in one message, so that no lock waits for the network. It takes 10,000
// uses at most.
func (s *Sessions) Touch(ctx context.Context, uses []issuer.Use) error {
	args := touchArgs(uses)
	if len(args) == 0 {
		return nil
	}
	values := strings.Repeat(", "+useValues, len(args)/3)[2:]
	err := s.db.exec(ctx, newStatement(fmt.Sprintf(touchSessions, values)), args...)
	return s.wrap(fmt.Sprintf("touch %d sessions", len(args)/3), err)
}

// touchArgs lists, sorted by session and once for each: its id, when it was used,
// and the latest time at which it may have been seen before for that to be written.
func touchArgs(uses []issuer.Use) []any {
	uses = slices.Clone(uses)
	slices.SortFunc(uses, func(a, b issuer.Use) int {
		return cmp.Or(cmp.Compare(a.SessionID, b.SessionID), b.At.Compare(a.At))
	})
	uses = slices.CompactFunc(uses, func(a, b issuer.Use) bool { return a.SessionID == b.SessionID })
	args := make([]any, 0, 3*len(uses))
	for _, use := range uses {
		if id := any(use.SessionID); wellFormed([]any{id}) { // as a key, what is malformed names nothing
			args = append(args, id, at(use.At), at(use.At.Add(-session.SeenInterval)))
		}
	}
	return args
}
