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
	seenInterval = 5 * time.Second
	seenBatch    = 500
	// maxPending is how many sessions the queue holds at most, which takes about 2 MB. Because the queue is
	// written every 5 seconds, a replica writes at most 2,000 sessions a second.
	maxPending = 10_000
)

// LastSeen queues the uses of sessions that [session.Verifier.Seen] reports, and writes them to the
// ledger in batches. No request waits for these writes, because they only affect displayed times.
// The queue is bounded. If the ledger is slow or down, a full queue refuses further sessions.
type LastSeen struct {
	ledger Toucher
	log    *slog.Logger

	mu      sync.Mutex
	pending map[string]time.Time // the queue: the latest use of each session, by session id
}

// Toucher records when sessions were last used. [Ledger] implements it.
type Toucher interface {
	Touch(ctx context.Context, uses []Use) error
}

// NewLastSeen returns a LastSeen with an empty queue, which [LastSeen.Run] writes to the ledger.
func NewLastSeen(ledger Toucher, log *slog.Logger) *LastSeen {
	return &LastSeen{ledger: ledger, log: log, pending: make(map[string]time.Time)}
}

// Add queues a use of a session for the ledger, and reports whether it did. Use it as
// [session.Verifier.Seen]. A full queue refuses a session that is not in the queue yet.
func (l *LastSeen) Add(ref session.Ref, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.add(ref.SessionID, now)
}

func (l *LastSeen) add(id string, at time.Time) bool {
	latest, queued := l.pending[id]
	if !queued && len(l.pending) >= maxPending {
		return false
	}
	if at.After(latest) {
		l.pending[id] = at
	}
	return true
}

// Run writes the queue to the ledger every 5 seconds until ctx ends, and then once more for at most
// 5 seconds.
func (l *LastSeen) Run(ctx context.Context) {
	tick := time.NewTicker(seenInterval)
	defer tick.Stop()
	for failing, last := false, false; !last; {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
		last = ctx.Err() != nil
		err := l.flush(ctx)
		if err != nil && !failing {
			l.log.WarnContext(ctx, "cannot record when sessions were last seen", "error", err)
		}
		failing = err != nil
	}
}

// flush writes the queue to the ledger, even if ctx has ended. If a batch fails, the later batches
// are queued again. The failed batch itself is queued again only if the ledger was unavailable,
// because after any other error a retry would fail too.
func (l *LastSeen) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), seenInterval)
	defer cancel()
	uses := l.take()
	for len(uses) > 0 {
		n := min(len(uses), seenBatch)
		if err := l.ledger.Touch(ctx, uses[:n]); err != nil {
			if !errors.Is(err, session.ErrUnavailable) {
				uses = uses[n:]
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			for _, use := range uses {
				l.add(use.SessionID, use.At)
			}
			return err
		}
		uses = uses[n:]
	}
	return nil
}

// take returns all queued uses and empties the queue.
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
