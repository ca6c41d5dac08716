package issuer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

// EpochTable is all that the ledger records of epochs, read at one moment.
type EpochTable struct {
	Epochs []Epoch // by number
	Now    int64   // the ledger's time, as in Epoch
	// Pending is when the oldest revocation was recorded that is not enforced yet, or zero.
	Pending time.Time
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

// Current returns the epochs that count. Without a Cluster it is one at most.
func (t *EpochTable) Current() (current []session.Epoch) {
	for i, e := range t.Epochs {
		superseded := slices.ContainsFunc(t.Epochs[i+1:], func(later Epoch) bool { return later.supersedes(e.Server) })
		retired := slices.ContainsFunc(t.Epochs, func(other Epoch) bool {
			return max(other.RegisteredAt, other.ConfirmedAt) > e.ConfirmedAt+retiredAfter
		})
		if !superseded && !retired {
			current = append(current, e.Epoch)
		}
	}
	return current
}

// find returns the current epoch of a server.
func (t *EpochTable) find(server string) (Epoch, bool) {
	current := t.Current()
	i := slices.IndexFunc(t.Epochs, func(e Epoch) bool { return e.Server == server && slices.Contains(current, e.Epoch) })
	if i < 0 {
		return Epoch{}, false
	}
	return t.Epochs[i], true
}

// settled reports whether a revocation that these servers took may be acknowledged. In the very
// first epoch it may at once, because there was no older one.
func (t *EpochTable) settled(servers ...string) bool {
	for _, server := range servers {
		e, ok := t.find(server)
		if !ok || e.Number > 1 && (e.RegisteredAt == 0 || e.ConfirmedAt-e.RegisteredAt < settledAfter) {
			return false
		}
	}
	return len(servers) > 0
}

// admits reports whether a server that has no current epoch may begin one. A server that was
// superseded may not as long as anybody uses one that counts instead: replicas that disagree would
// supersede each other's server over and over.
func (t *EpochTable) admits(server string) bool {
	known := slices.ContainsFunc(t.Epochs, func(e Epoch) bool { return e.Server == server || e.Supersedes == server })
	for _, current := range t.Current() {
		e, _ := t.find(current.Server)
		if known && t.Now-e.ConfirmedAt < retiredAfter && (e.supersedes(server) || slices.ContainsFunc(t.Epochs, func(e Epoch) bool { return e.Supersedes == server })) {
			return false
		}
	}
	return true
}

// PollEpochs tells the ledger which servers this replica uses, and learns which ones count. Run
// calls it once a second.
func (m *Manager) PollEpochs(ctx context.Context) {
	settled, err := m.pollEpochs(ctx)
	m.settled.Store(settled)
	if previous := m.distrust.Swap(&err); ctx.Err() == nil && (previous == nil || (*previous == nil) != (err == nil)) {
		if err != nil {
			m.Log.WarnContext(ctx, "checks do not trust Redis and ask the ledger", "error", err)
		} else {
			m.Log.InfoContext(ctx, "checks trust Redis", "epochs", m.Store.Epochs().Current(time.Now(), time.Time{}))
		}
	}
}

// Trusted returns nil if the latest poll found that the Redis servers of this replica count.
func (m *Manager) Trusted() error {
	if err := m.distrust.Load(); err != nil {
		return *err
	}
	return errors.New("issuer: the ledger was not asked yet")
}

// pollEpochs reports whether this replica uses a server in whose epoch revocations may be
// acknowledged. It returns an error if checks do not trust all servers.
func (m *Manager) pollEpochs(ctx context.Context) (settled bool, err error) {
	servers, away := m.Store.Servers(ctx)
	known := m.Store.Epochs()
	for range 2 { // an epoch that this replica begins counts at once
		asked := time.Now()
		limited, cancel := context.WithTimeout(ctx, session.EpochTimeout)
		table, err := m.Ledger.Epochs(limited)
		cancel()
		if err != nil {
			if errors.Is(err, session.ErrUnavailable) {
				known.Prolong(asked)
			}
			break
		}
		pending := time.Duration(0)
		if !table.Pending.IsZero() {
			pending = max(1, m.Now().Sub(table.Pending))
		}
		known.Learn(table.Current(), asked, pending)
		settled = slices.ContainsFunc(servers, func(s Server) bool { return table.settled(s.ID) })
		began, err := m.registerServers(ctx, &table, servers)
		if err != nil || !began {
			away = cmp.Or(away, err)
			break
		}
	}
	trusted := known.Current(time.Now(), time.Time{})
	for _, s := range servers {
		if !slices.ContainsFunc(trusted, func(e session.Epoch) bool { return e.Server == s.ID }) {
			away = cmp.Or(away, fmt.Errorf("issuer: another Redis server than %s counts, or the ledger is away", s.ID))
		}
	}
	return settled, away
}

// registerServers confirms the servers that count, and begins an epoch for each server that may
// begin one. It reports whether there was one.
func (m *Manager) registerServers(ctx context.Context, table *EpochTable, servers []Server) (began bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, session.EpochTimeout)
	defer cancel()
	next := int64(1)
	if n := len(table.Epochs); n > 0 {
		next = table.Epochs[n-1].Number + 1
	}
	var numbers []int64
	for _, s := range servers {
		if e, ok := table.find(s.ID); ok {
			numbers = append(numbers, e.Number)
		} else if table.admits(s.ID) {
			if err := m.Ledger.BeginEpoch(ctx, next, s); err != nil {
				return began, err
			}
			next, began = next+1, true
		}
	}
	if len(numbers) > 0 {
		err = m.Ledger.ConfirmEpochs(ctx, numbers...)
	}
	return began, err
}
