package issuer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sessiond/sessiond/session"
)

const (
	seenFlush = 5 * time.Second
	seenBatch = 500
	// seenPending bounds memory, to about 2 MB, and with seenFlush the load on
	// the ledger: 2,000 sessions a second from one replica.
	seenPending = 10_000
)

// LastSeen gathers the uses of sessions, as [session.Verifier.Seen] tells of them, and
// writes them to the ledger in batches, away from the requests. Nothing depends
// on it but what people are shown, so it gives way to everything: when the
// ledger is slow or away, it waits with a bounded number of sessions.
type LastSeen struct {
	ledger Toucher
	log    *slog.Logger

	mu      sync.Mutex
	pending map[string]time.Time // by session id, its latest use
}

// Toucher records when sessions were used. [Ledger] is one.
type Toucher interface {
	Touch(ctx context.Context, uses []Use) error
}

// NewLastSeen returns a LastSeen that writes while [LastSeen.Run] runs.
func NewLastSeen(ledger Toucher, log *slog.Logger) *LastSeen {
	return &LastSeen{ledger: ledger, log: log, pending: make(map[string]time.Time)}
}

// Add queues a use, for a [session.Verifier]'s Seen. False: as many sessions wait
// as may, and this is not one of them.
func (l *LastSeen) Add(ref session.Ref, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.put(ref.SessionID, now)
}

func (l *LastSeen) put(id string, at time.Time) bool {
	known, waits := l.pending[id]
	if !waits && len(l.pending) >= seenPending {
		return false
	}
	if at.After(known) {
		l.pending[id] = at
	}
	return true
}

// Run writes what was noted every 5 seconds until ctx ends, and then once more.
// That last time takes 5 seconds at most.
func (l *LastSeen) Run(ctx context.Context) {
	tick := time.NewTicker(seenFlush)
	defer tick.Stop()
	for failing, last := false, false; !last; {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		last = ctx.Err() != nil
		err := l.flush(ctx)
		if err != nil && !failing {
			l.log.WarnContext(ctx, "when sessions were last seen is not recorded at present", "error", err)
		}
		failing = err != nil
	}
}

// flush writes all that waits, also when ctx has ended. At a failure the rest
// waits on, and what failed too, unless waiting does not mend it.
func (l *LastSeen) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), seenFlush)
	defer cancel()
	uses := l.take()
	for len(uses) > 0 {
		n := min(len(uses), seenBatch)
		if err := l.ledger.Touch(ctx, uses[:n]); err != nil {
			if !errors.Is(err, session.ErrUnavailable) {
				uses = uses[n:]
			}
			l.putBack(uses)
			return err
		}
		uses = uses[n:]
	}
	return nil
}

func (l *LastSeen) take() []Use {
	l.mu.Lock()
	pending := l.pending
	l.pending = make(map[string]time.Time)
	l.mu.Unlock()
	uses := make([]Use, 0, len(pending))
	for id, at := range pending {
		uses = append(uses, Use{SessionID: id, At: at})
	}
	return uses
}

func (l *LastSeen) putBack(uses []Use) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, use := range uses {
		l.put(use.SessionID, use.At)
	}
}
