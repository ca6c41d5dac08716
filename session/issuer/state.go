package issuer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/sessiond/sessiond/session"
)

// The names of states and of changes. They are labels of metrics and fields of the log.
const (
	// One of these four states holds at any time.
	trusted     = "trusted"     // checks trust the Redis servers of this replica
	redisAway   = "redis_away"  // in two polls, a server did not answer in time or took no writes
	superseded  = "superseded"  // another server counts
	unconfirmed = "unconfirmed" // nobody says that the server counts

	ledgerAway  = "ledger_away"
	ledgerBack  = "ledger_back"
	readingBack = "reading_back" // most checks ask the ledger
	readingDone = "reading_done"

	epochBegun    = "epoch_begun" // by this replica
	epochSeen     = "epoch_seen"  // begun by another replica
	serverChanged = "server_changed"
)

var (
	// States are the states in which a replica can be. See [Manager.In].
	States = []string{trusted, redisAway, superseded, unconfirmed, ledgerAway, readingBack}
	// Changes are the changes of state that [Manager.PollEpochs] logs.
	Changes = append(States[:len(States):len(States)], ledgerBack, readingDone, epochBegun, epochSeen, serverChanged)
)

// state is what a poll found. logChanges compares it with the state of the poll before.
type state struct {
	redis    string // trusted, redisAway, superseded or unconfirmed
	distrust error  // why checks do not trust Redis, or nil
	ledger   error  // why the ledger is away, or nil
	missed   bool   // Redis did not answer this poll

	servers []string // the names of the servers, or those of an earlier poll if Redis is away
	latest  int64    // the number of the latest epoch; -1 if the ledger has never answered
	epochs  []Epoch  // the epochs that the poll before did not know
	begun   []int64  // the numbers of those that this replica began

	checks, fallbacks uint64 // as counted until this poll
	reading           bool
}

// newState returns what a poll found. The errors say why Redis and the ledger are away.
func newState(before *state, table *EpochTable, servers []Server, begun []int64, current []session.Epoch, redis, ledger error) *state {
	now := &state{redis: trusted, ledger: ledger, latest: -1, begun: begun}
	if before != nil {
		now.servers, now.latest = before.servers, before.latest
	}
	for _, e := range table.Epochs {
		if e.Number > now.latest && now.latest >= 0 || slices.Contains(begun, e.Number) {
			now.epochs = append(now.epochs, e)
		}
	}
	if n := len(table.Epochs); n > 0 {
		now.latest = table.Epochs[n-1].Number
	} else if ledger == nil {
		now.latest = 0
	}

	var names []string
	for _, s := range servers {
		names = append(names, s.ID)
		another := table.find(s.ID).Number == 0 && !table.admits(s.ID)
		if ledger != nil { // what it said before still holds
			another = before != nil && before.redis == superseded && slices.Contains(before.servers, s.ID)
		}
		counts := slices.ContainsFunc(current, func(e session.Epoch) bool { return e.Server == s.ID })
		switch {
		case counts || now.redis == superseded:
		case another:
			now.redis, now.distrust = superseded, fmt.Errorf("issuer: another Redis server than %s counts", s.ID)
		default:
			now.redis, now.distrust = unconfirmed, fmt.Errorf("issuer: the ledger does not say that the Redis server %s counts", s.ID)
		}
	}
	switch {
	case redis == nil:
		slices.Sort(names)
		now.servers = names
	case before != nil && !before.missed: // on a busy machine, a single answer may be late
		now.redis, now.distrust, now.missed = before.redis, before.distrust, true
	default:
		now.redis, now.distrust, now.missed = redisAway, redis, true
	}
	return now
}

// count notes how many checks there were, and whether most of those since the state before asked the
// ledger. Once they do, reading goes on until nine of ten checks do not need the ledger. A few checks
// say nothing, because each new session is read once.
func (now *state) count(before *state, checks, fallbacks uint64) {
	const few = 10
	now.checks, now.fallbacks = checks, fallbacks
	if before == nil {
		return
	}
	share := (checks - before.checks) / 2
	if before.reading {
		share = (checks - before.checks) / 10
	}
	asked := fallbacks - before.fallbacks
	now.reading = asked >= few && asked > share
}

// logChanges writes one line to the log for each change between two polls, and reports its name to
// Changed. The state before is nil in the first poll, which logs the state itself.
func (m *Manager) logChanges(ctx context.Context, before, now *state) {
	say := func(level slog.Level, change, text string, args ...any) {
		m.Log.Log(ctx, level, text, append([]any{"change", change}, args...)...)
		if m.Changed != nil {
			m.Changed(change)
		}
	}
	if before == nil {
		before = &state{}
	}
	switch {
	case now.ledger != nil && before.ledger == nil:
		say(slog.LevelWarn, ledgerAway, "the ledger does not answer in time or takes no writes", "error", now.ledger)
	case now.ledger == nil && before.ledger != nil:
		say(slog.LevelInfo, ledgerBack, "the ledger is back")
	}
	if before.servers != nil && !slices.Equal(before.servers, now.servers) {
		say(slog.LevelWarn, serverChanged, "this replica uses another Redis server", "before", before.servers, "now", now.servers)
	}
	for _, e := range now.epochs {
		if slices.Contains(now.begun, e.Number) {
			say(slog.LevelInfo, epochBegun, "this replica began an epoch", "epoch", e.Number, "server", e.Server)
		} else {
			say(slog.LevelInfo, epochSeen, "another replica began an epoch", "epoch", e.Number, "server", e.Server)
		}
	}
	if now.redis != before.redis {
		switch now.redis {
		case trusted:
			say(slog.LevelInfo, trusted, "checks trust Redis", "epoch", now.latest, "servers", now.servers)
		case redisAway:
			say(slog.LevelWarn, redisAway, "Redis does not answer in time or takes no writes; checks ask the ledger", "error", now.distrust)
		case superseded:
			say(slog.LevelWarn, superseded, "another Redis server counts; checks ask the ledger", "epoch", now.latest, "error", now.distrust)
		default:
			say(slog.LevelWarn, unconfirmed, "the ledger does not say which Redis server counts; checks ask the ledger", "error", now.distrust)
		}
	}
	switch {
	case now.reading && !before.reading:
		say(slog.LevelWarn, readingBack, "most checks ask the ledger",
			"checks", now.checks-before.checks, "asked", now.fallbacks-before.fallbacks)
	case !now.reading && before.reading:
		say(slog.LevelInfo, readingDone, "Redis answers most checks again")
	}
}

// Trusted returns nil if the latest poll found that the Redis servers of this replica count.
func (m *Manager) Trusted() error {
	if now := m.state.Load(); now != nil {
		return now.distrust
	}
	return errors.New("issuer: the ledger was not asked yet")
}

// Epoch returns the number of the latest epoch that this replica knows, or 0 if it knows none.
func (m *Manager) Epoch() int64 {
	if now := m.state.Load(); now != nil {
		return max(now.latest, 0)
	}
	return 0
}

// In reports whether the latest poll found this replica in a state, which is one of States.
func (m *Manager) In(name string) bool {
	now := m.state.Load()
	switch {
	case now == nil:
		return false
	case name == ledgerAway:
		return now.ledger != nil
	case name == readingBack:
		return now.reading
	}
	return now.redis == name
}
