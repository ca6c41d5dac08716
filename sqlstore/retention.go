package sqlstore

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sessiond/sessiond/identity"
	"github.com/sessiond/sessiond/session/issuer"
)

// A batch is the part of a chore that one transaction does: the rows whose ids are above After and
// not above Last.
type batch struct {
	After, Last string
	Before      timestamp // the chore is about rows from before this time
	BeforeID    string    // an id of that time
	Expired     timestamp // no check accepts a token that expired before this time
	Limit       int
	N           int // the number of rows between After and Last
}

// A chore does one batch: it sets Last and N. If it is complete, it never has to look at the rows of a
// batch again. Otherwise the batch may have left rows that have to go later.
type chore struct {
	do       func(context.Context, *tx, *batch) error
	complete bool
}

var chores = map[identity.Chore]chore{
	identity.ForgetSessions: {forgetSessions, false},
	identity.ForgetAttempts: {forgetAttempts, false},
	identity.ForgetEvents:   {forgetEvents, false},
	identity.CutSessions:    {cutIn("sessions"), true},
	identity.CutAttempts:    {cutIn("login_attempts"), true},
}

var (
	// lockChore skips the row if another replica is doing a batch of this chore.
	lockChore = newStatement(`SELECT done FROM retention WHERE chore = ? FOR UPDATE SKIP LOCKED`)
	saveChore = newStatement(`UPDATE retention SET done = ? WHERE chore = ?`)

	errChoreTaken = errors.New("another replica is doing this chore")
)

// Prune implements [identity.Store]. The table retention says where the last batch ended. After its last
// batch, a chore begins again at the oldest row, unless it is complete.
func (u *Users) Prune(ctx context.Context, name identity.Chore, before, now time.Time, limit int) (more bool, err error) {
	err = u.db.inTx(ctx, func(ctx context.Context, tx *tx) error {
		b := batch{Before: at(before), BeforeID: issuer.NewTimedID(before), Expired: at(now.Add(-issuer.Margin)), Limit: limit}
		if err := tx.get(ctx, &b.After, errChoreTaken, lockChore, string(name)); err != nil {
			return err
		}
		b.Last = b.After
		if err := chores[name].do(ctx, tx, &b); err != nil {
			return err
		}
		if more = b.N == limit; !more && !chores[name].complete {
			b.Last = ""
		}
		_, err := tx.exec(ctx, saveChore, b.Last, string(name))
		return err
	})
	if errors.Is(err, errChoreTaken) {
		return false, nil
	}
	return more && err == nil, u.wrap(string(name), err)
}

// timed sets the end of a batch of a table whose ids begin with their time.
func (t *tx) timed(ctx context.Context, ids *statement, b *batch) error {
	var end struct {
		N    int
		Last *string
	}
	err := t.get(ctx, &end, nil, ids, *b)
	if b.N = end.N; end.Last != nil {
		b.Last = *end.Last
	}
	return err
}

func endOfBatch(table string) *statement {
	return newStatement(`SELECT count(*) AS n, max(id) AS last FROM (
		SELECT id FROM ` + table + ` WHERE id > :after AND id < :before_id ORDER BY id LIMIT :limit) AS batch`)
}

var (
	sessionBatch  = endOfBatch("sessions")
	attemptBatch  = endOfBatch("login_attempts")
	forgetRevoked = newStatement(`DELETE FROM revoked_tokens WHERE session_id > :after AND session_id <= :last AND expires_at < :expired`)
	// forgetOver keeps a session that is open or has a token that a check may still accept, however long
	// ago its login was.
	forgetOver = newStatement(`
		DELETE FROM sessions WHERE id > :after AND id <= :last
			AND (ended_at IS NOT NULL OR expires_at < :expired OR generation < (SELECT token_gen FROM users WHERE users.id = user_id))
			AND access_expires_at < :expired
			AND NOT EXISTS (SELECT 1 FROM revoked_tokens WHERE session_id = sessions.id)`)
	// forgetEndings keeps what the history of a session that stays needs.
	forgetEndings = newStatement(`
		DELETE FROM session_endings WHERE (owner_id, below) IN (
			SELECT owner_id, below FROM session_endings WHERE at < :before AND NOT EXISTS
				(SELECT 1 FROM sessions WHERE user_id = owner_id AND generation < below AND ended_at IS NULL)
			ORDER BY at LIMIT :limit)`)
	forgetBulks  = newStatement(`DELETE FROM bulk_revocations WHERE finished_at < :before`)
	forgetFailed = newStatement(`DELETE FROM login_attempts WHERE id > :after AND id <= :last`)
)

func forgetSessions(ctx context.Context, t *tx, b *batch) error {
	if err := t.timed(ctx, sessionBatch, b); err != nil || b.N == 0 {
		return err
	}
	if _, err := t.exec(ctx, forgetRevoked, *b); err != nil {
		return err
	}
	if _, err := t.exec(ctx, forgetOver, *b); err != nil {
		return err
	}
	if _, err := t.exec(ctx, forgetEndings, *b); err != nil {
		return err
	}
	_, err := t.exec(ctx, forgetBulks, *b)
	return err
}

func forgetAttempts(ctx context.Context, t *tx, b *batch) error {
	if err := t.timed(ctx, attemptBatch, b); err != nil || b.N == 0 {
		return err
	}
	_, err := t.exec(ctx, forgetFailed, *b)
	return err
}

var (
	eventBatch = newStatement(`SELECT seq, at FROM events WHERE seq > ? ORDER BY seq LIMIT ?`)
	// forgetOldEvents compares the time, too, because the numbers of events that were recorded at the
	// same time are in no order.
	forgetOldEvents = newStatement(`DELETE FROM events WHERE seq > ? AND seq <= ? AND at < ? RETURNING coalesce(number, 0)`)
	moveForgotten   = newStatement(`UPDATE event_chain SET forgotten = ?`)
	// holdChain makes sealers skip their turn. Otherwise one could wait for events that are being removed, while
	// the retention waits for its lock.
	holdChain = newStatement(`SELECT forgotten FROM event_chain FOR UPDATE`)
)

// forgetEvents ends at the first batch without an old event.
func forgetEvents(ctx context.Context, t *tx, b *batch) error {
	after, err := strconv.ParseInt("0"+b.After, 10, 64)
	if err != nil {
		return err
	}
	var events []struct {
		Seq int64
		At  timestamp
	}
	if err := t.list(ctx, &events, eventBatch, after, b.Limit); err != nil || len(events) == 0 {
		return err
	}
	last := events[len(events)-1].Seq
	var forgotten int64
	if err := t.get(ctx, &forgotten, nil, holdChain); err != nil {
		return err
	}
	var numbers []int64
	if err := t.list(ctx, &numbers, forgetOldEvents, after, last, b.Before); err != nil || len(numbers) == 0 {
		return err
	}
	b.N, b.Last = len(events), strconv.FormatInt(last, 10)
	if newest := slices.Max(numbers); newest > forgotten {
		_, err = t.exec(ctx, moveForgotten, newest)
	}
	return err
}

// cutIn returns the chore that replaces the addresses in a table by their networks, and the user agents
// by the names of the devices. It does so in open sessions, too.
func cutIn(table string) func(context.Context, *tx, *batch) error {
	logins := newStatement(`SELECT id, ip FROM ` + table + ` WHERE id > :after AND id < :before_id ORDER BY id LIMIT :limit`)
	return func(ctx context.Context, t *tx, b *batch) error {
		var found []struct{ ID, IP string }
		if err := t.list(ctx, &found, logins, *b); err != nil || len(found) == 0 {
			return err
		}
		b.N, b.Last = len(found), found[len(found)-1].ID
		networks := make(map[string]string)
		for _, l := range found {
			networks[l.IP] = network(l.IP)
		}
		var args []any
		for ip, network := range networks {
			args = append(args, ip, network)
		}
		values := strings.Repeat(", (?, ?)", len(networks))[2:]
		_, err := t.exec(ctx, newStatement(`
			UPDATE `+table+` SET ip = networks.column2, user_agent = device FROM (VALUES `+values+`) AS networks
			WHERE id > ? AND id <= ? AND ip = networks.column1`), append(args, b.After, b.Last)...)
		return err
	}
}

// network returns the /24 or /48 network of an address. It returns a network as it is, and "" for any
// other text.
func network(ip string) string {
	if p, err := netip.ParsePrefix(ip); err == nil {
		return p.String()
	}
	addr, err := netip.ParseAddr(ip)
	if err != nil {
		return ""
	}
	bits := 48
	if addr = addr.Unmap().WithZone(""); addr.Is4() {
		bits = 24
	}
	return netip.PrefixFrom(addr, bits).Masked().String()
}

// erased is the number of rows that one statement of eraseClients changes, because of its time limit.
const erased = 5000

func eraseClientsOf(table string) *statement {
	return newStatement(`
		UPDATE ` + table + ` SET ip = '', user_agent = '', device = ''
		WHERE id IN (SELECT id FROM ` + table + ` WHERE user_id = ? AND id > ? ORDER BY id LIMIT ?)
		RETURNING id`)
}

var eraseClients = []*statement{eraseClientsOf("sessions"), eraseClientsOf("login_attempts")}

// eraseClients erases addresses, user agents and devices in all logins and failed logins of a user.
// The user must be locked for update, because a login could be added otherwise.
func (t *tx) eraseClients(ctx context.Context, userID string) error {
	for _, erase := range eraseClients {
		for after, more := "", true; more; {
			var ids []string
			if err := t.list(ctx, &ids, erase, userID, after, erased); err != nil {
				return err
			}
			for _, id := range ids {
				after = max(after, id)
			}
			more = len(ids) == erased
		}
	}
	return nil
}
