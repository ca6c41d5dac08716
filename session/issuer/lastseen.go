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
	// maxPending is the largest number of queued sessions. They take about 2 MB of memory. Because the
	// queue is written every seenInterval, one replica writes at most 2,000 sessions a second.
	maxPending = 10_000
)

// LastSeen queues the uses of sessions that [session.Verifier.Seen] reports, and writes them to the
// ledger in batches. No request waits for a write, because only displayed times depend on it. While
// the ledger (the database) is slow or down, the queue is bounded, and further uses are refused.
type LastSeen struct {
	ledger Toucher
	log    *slog.Logger

	mu      sync.Mutex
	pending map[string]time.Time // the queue: the latest use of each session, by session id
}

// Toucher records when sessions were used. [Ledger] implements it.
type Toucher interface {
	Touch(ctx context.Context, uses []Use) error
}

// NewLastSeen returns a LastSeen with an empty queue. [LastSeen.Run] writes the queue.
func NewLastSeen(ledger Toucher, log *slog.Logger) *LastSeen {
	return &LastSeen{ledger: ledger, log: log, pending: make(map[string]time.Time)}
}

// Add queues a use of a session and reports whether it did. It is meant for
// [session.Verifier.Seen]. If the queue is full, Add refuses a session that is not in the queue
// yet.
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

// Run writes the queue every 5 seconds until ctx ends, and then once more for at most 5 seconds.
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

// flush writes the queue, even if ctx has ended. If a batch fails, the later batches are queued
// again. The failed batch is queued again only if the ledger was unavailable, because a retry would
// not help against any other error.
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
