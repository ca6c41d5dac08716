package issuer

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/sessiond/sessiond/session"
)

// Epoch is an epoch as the ledger records it. Its times are the ledger's, in milliseconds.
type Epoch struct {
	session.Epoch
	Supersedes   string // see [Server]
	RegisteredAt int64  // since when replicas have confirmed it without a gap; 0 before the first time
	ConfirmedAt  int64  // when a replica last said that it uses the server
}

// EpochTable is what the ledger records of epochs, read at one moment.
type EpochTable struct {
	Epochs  []Epoch   // by number
	Now     int64     // the ledger's time, as in Epoch
	Pending time.Time // when the oldest revocation was recorded that is not enforced yet, or zero
}

const (
	// settledAfter is how long an epoch is confirmed before a revocation is acknowledged in it. By
	// then no verifier trusts an older epoch: trust lasts 2 s, or 3 s in another process.
	settledAfter = 4000
	// retiredAfter is how long after its last confirmation an epoch still counts.
	retiredAfter = 10_000
)

// supersedes reports whether a later epoch e ends an epoch of the server: any, unless both servers
// are masters of one Cluster.
func (e *Epoch) supersedes(server string) bool {
	_, here, _ := strings.Cut(e.Server, "/")
	_, there, _ := strings.Cut(server, "/")
	return e.Supersedes == "" || here != there || e.Supersedes == server || e.Server == server
}

// current returns the epochs that count. Without a Cluster it is one at most.
func (t *EpochTable) current() (current []Epoch) {
	for i, e := range t.Epochs {
		superseded := slices.ContainsFunc(t.Epochs[i+1:], func(later Epoch) bool { return later.supersedes(e.Server) })
		retired := slices.ContainsFunc(t.Epochs, func(other Epoch) bool {
			latest := min(max(other.RegisteredAt, other.ConfirmedAt), t.Now) // the ledger's clock may have been ahead
			return latest > e.ConfirmedAt+retiredAfter
		})
		if !superseded && !retired {
			current = append(current, e)
		}
	}
	return current
}

// trusted returns what a verifier needs to know. All servers get the latest number, even if that
// epoch is over. Otherwise an entry of an earlier epoch could move with its slot of a Cluster to
// another master, survive there in a copy that lost its revocation, and come back.
func (t *EpochTable) trusted() (trusted []session.Epoch) {
	for _, e := range t.current() {
		trusted = append(trusted, session.Epoch{Number: t.Epochs[len(t.Epochs)-1].Number, Server: e.Server})
	}
	return trusted
}

// find returns the current epoch of a server, or one with the number 0.
func (t *EpochTable) find(server string) Epoch {
	current := t.current()
	if i := slices.IndexFunc(current, func(e Epoch) bool { return e.Server == server }); i >= 0 {
		return current[i]
	}
	return Epoch{}
}

// settled reports whether a revocation that these servers took may be acknowledged. In the very
// first epoch it may at once, because there was no older one.
func (t *EpochTable) settled(servers ...string) bool {
	for _, server := range servers {
		e := t.find(server)
		if e.Number == 0 || e.Number > 1 && (e.RegisteredAt == 0 || e.ConfirmedAt-e.RegisteredAt < settledAfter) {
			return false
		}
	}
	return len(servers) > 0
}

// admits reports whether a server that has no current epoch may begin one. A server that was
// superseded may not as long as a replica uses the one that counts instead. Otherwise replicas that
// disagree would supersede each other's server over and over.
func (t *EpochTable) admits(server string) bool {
	known, heirs := false, []string{} // heirs are the servers that were promoted from this one, or from an heir
	for _, e := range t.Epochs {
		known = known || e.Server == server
		if e.Supersedes == server || slices.Contains(heirs, e.Supersedes) {
			heirs = append(heirs, e.Server)
		}
	}
	return !slices.ContainsFunc(t.current(), func(e Epoch) bool {
		return t.Now-e.ConfirmedAt < retiredAfter && (slices.Contains(heirs, e.Server) || known && e.supersedes(server))
	})
}

// PollEpochs tells the ledger which servers this replica uses, and learns which ones count. Run
// calls it once a second.
func (m *Manager) PollEpochs(ctx context.Context) {
	before := m.state.Load()
	now := m.pollEpochs(ctx, before)
	if ctx.Err() != nil { // the poll found nothing but the end of the service
		return
	}
	if m.Counts != nil {
		now.count(before, m.Counts.Checks.Load(), m.Counts.Fallbacks.Load())
	}
	m.state.Store(now)
	m.logChanges(ctx, before, now)
}

func (m *Manager) pollEpochs(ctx context.Context, before *state) *state {
	servers, err := m.Store.Servers(ctx)
	known, settled := m.Store.Epochs(), false
	var table EpochTable
	var begun []int64
	var away error
	for begin, again := true, true; again; begin = false { // again, so that an epoch that this replica begins counts at once
		asked := time.Now()
		limited, cancel := context.WithTimeout(ctx, session.EpochTimeout)
		table, away = m.Ledger.Epochs(limited)
		again = false
		settled = away == nil && slices.ContainsFunc(servers, func(s Server) bool { return table.settled(s.ID) })
		if errors.Is(away, session.ErrUnavailable) {
			known.Prolong(asked)
		} else if away == nil {
			pending := time.Duration(0)
			if !table.Pending.IsZero() {
				pending = max(1, m.Now().Sub(table.Pending))
			}
			known.Learn(table.trusted(), asked, pending)
			var numbers []int64
			numbers, away = m.confirm(limited, &table, servers, begin)
			begun, again = append(begun, numbers...), len(numbers) > 0
		}
		cancel()
	}
	m.settled.Store(settled)
	return newState(before, &table, servers, begun, known.Current(time.Now(), time.Time{}), err, away)
}

// confirm confirms the servers that count. If begin is set, it begins an epoch for each that may
// begin one, and returns the numbers of these epochs. If the ledger fails, the next poll tries again.
func (m *Manager) confirm(ctx context.Context, table *EpochTable, servers []Server, begin bool) (begun []int64, err error) {
	next := int64(1)
	if n := len(table.Epochs); n > 0 {
		next = table.Epochs[n-1].Number + 1
	}
	var numbers []int64
	for _, s := range servers {
		if e := table.find(s.ID); e.Number > 0 {
			numbers = append(numbers, e.Number)
		} else if begin && table.admits(s.ID) {
			if failed := m.Ledger.BeginEpoch(ctx, next, s); failed != nil {
				err = failed
				continue
			}
			begun, next = append(begun, next), next+1
		}
	}
	return begun, cmp.Or(m.Ledger.ConfirmEpochs(ctx, numbers...), err)
}
