package sqlstore

import (
	"context"
	"strings"
	"time"

	"github.com/sessiond/sessiond/session/issuer"
)

const (
	// scanned is how many sessions one part of a search looks at. It takes some 20 ms.
	scanned = 10_000
	// searchParts is how many parts one page may look at.
	searchParts = 2
)

// search holds the parameters of the statements about the sessions that a filter selects.
type search struct {
	Subject, Address, UserAgent             string
	CreatedAfter, CreatedBefore, SeenBefore timestamp
	Now                                     timestamp
	Before                                  string // only sessions with a lower id
	Last                                    string // the lowest id of this part
	From                                    string // no session with a lower id is selected
	Limit                                   int
	filter                                  issuer.Filter
}

func newSearch(f issuer.Filter, now time.Time, before string, limit int) search {
	s := search{
		Subject: f.Subject, UserAgent: "%" + likeEscape.Replace(strings.ToLower(f.UserAgent)) + "%",
		CreatedAfter: at(f.CreatedAfter), CreatedBefore: at(f.CreatedBefore), SeenBefore: at(f.SeenBefore),
		Now: at(now), Before: before, Limit: limit, filter: f,
	}
	if f.Address.IsValid() {
		s.Address = f.Address.Masked().String()
	}
	// The ids begin with their time.
	if !f.CreatedAfter.IsZero() {
		s.From = issuer.NewTimedID(f.CreatedAfter)[:timeChars]
	}
	if before == "" {
		s.Before = afterAllIDs
		if !f.CreatedBefore.IsZero() {
			s.Before = issuer.NewTimedID(f.CreatedBefore)[:timeChars] + afterAllIDs
		}
	}
	return s
}

const (
	timeChars   = 8   // the characters of an id that encode its time
	afterAllIDs = "~" // sorts after every id
)

// likeEscape escapes what has a meaning in a pattern of LIKE.
var likeEscape = strings.NewReplacer("!", "!!", "%", "!%", "_", "!_")

// statement returns a statement about the sessions between the ids Before and Last that the filter selects.
func (s *search) statement(begin, end string) *statement {
	conditions := begin + ` WHERE id < :before AND id >= :last AND ended_at IS NULL AND expires_at > :now`
	add := func(wanted bool, condition string) {
		if wanted {
			conditions += " AND " + condition
		}
	}
	add(s.Subject != "", `user_id = :subject`)
	add(!s.CreatedAfter.IsZero(), `created_at >= :created_after`)
	add(!s.CreatedBefore.IsZero(), `created_at < :created_before`)
	add(!s.SeenBefore.IsZero(), `last_seen_at < :seen_before`)
	add(s.filter.UserAgent != "", `lower(user_agent) LIKE :user_agent ESCAPE '!'`)
	add(s.Address != "", `in_network(ip, :address)`)
	return newStatement(conditions + ` AND generation = (SELECT token_gen FROM users WHERE users.id = user_id)` + end)
}

// endOfPart finds the lowest id of the next part. All sessions of one subject are one part.
var endOfPart = newStatement(`SELECT count(*) AS n, min(id) AS last FROM (
	SELECT id FROM sessions WHERE ended_at IS NULL AND id < :before AND id >= :from ORDER BY id DESC LIMIT :limit) AS part`)

// part sets the end of the next part. It returns the id before which the part after it begins, or "" if there
// is none.
func (t *tx) part(ctx context.Context, s *search) (next string, err error) {
	s.Last = s.From
	if s.Subject != "" {
		return "", nil
	}
	var end struct {
		N    int
		Last *string
	}
	bounds := *s
	bounds.Limit = scanned
	if err := t.get(ctx, &end, nil, endOfPart, bounds); err != nil || end.N < scanned {
		return "", err
	}
	s.Last = *end.Last
	return s.Last, nil
}

// Search implements [issuer.Ledger].
func (s *Sessions) Search(ctx context.Context, f issuer.Filter, now time.Time, page issuer.Page) (found []issuer.Session, next string, err error) {
	q := newSearch(f, now, page.Before, page.Limit)
	err = s.db.single(ctx, func(ctx context.Context, tx *tx) error {
		found, next = nil, ""
		for range searchParts {
			var rows []sessionRow
			if next, err = tx.part(ctx, &q); err != nil {
				return err
			}
			if err := tx.list(ctx, &rows, q.statement(selectSession, ` ORDER BY id DESC LIMIT :limit`), q); err != nil {
				return err
			}
			found = append(found, sessionsOf(rows)...)
			if len(rows) == q.Limit { // the part may have more
				next = rows[len(rows)-1].ID
				return nil
			}
			if next == "" {
				return nil
			}
			q.Before, q.Limit = next, page.Limit-len(found)
		}
		return nil
	})
	return found, next, s.wrap("search sessions", err)
}

// Count implements [issuer.Ledger].
func (s *Sessions) Count(ctx context.Context, f issuer.Filter, now time.Time, before string) (n int64, next string, err error) {
	q := newSearch(f, now, before, 0)
	err = s.db.single(ctx, func(ctx context.Context, tx *tx) (err error) {
		n, next, err = tx.count(ctx, &q)
		return err
	})
	return n, next, s.wrap("count sessions", err)
}

func (t *tx) count(ctx context.Context, q *search) (n int64, next string, err error) {
	if next, err = t.part(ctx, q); err == nil {
		err = t.get(ctx, &n, nil, q.statement(`SELECT count(*) FROM sessions`, ""), *q)
	}
	return n, next, err
}

var subjectOf = newStatement(`SELECT user_id FROM sessions WHERE id = ?`)

// SubjectOf implements [issuer.Ledger].
func (s *Sessions) SubjectOf(ctx context.Context, id string) (string, error) {
	var subject string
	err := s.db.get(ctx, &subject, issuer.ErrNotFound, subjectOf, id)
	return subject, s.wrap("find the user of session "+id, err)
}
