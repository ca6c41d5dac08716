package session

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
)

// Epoch is a span of time in which one Redis server counts. The ledger numbers the epochs. An active
// entry counts only on this server, and only if it was written in this epoch. The masters of a Cluster
// share one number, that of the latest epoch, because entries move between them.
type Epoch struct {
	Number int64  `json:"number"`
	Server string `json:"server"` // its master_replid, and the place of the keys on it
}

const (
	epochTrust = 2 * time.Second // how long an answer of the ledger is trusted after the question was sent
	// EpochInterval is the time between two questions to the ledger.
	EpochInterval = time.Second
	// EpochTimeout bounds a question. It is below EpochInterval, because trust must not lapse while a
	// question hangs.
	EpochTimeout = 800 * time.Millisecond
)

// Epochs is what a verifier knows of the current epochs. The zero value trusts no server. One
// goroutine changes it, and any number of checks read it without a lock.
type Epochs struct{ known atomic.Pointer[knownEpochs] }

type knownEpochs struct {
	current  []Epoch
	asked    time.Time // when the ledger was asked
	enforced time.Time // every revocation that was recorded before is enforced in Redis
	away     bool      // the latest question failed
}

// Learn takes the answer of a ledger that was asked at the time asked: the current epochs, and the
// age of the oldest recorded revocation that is not enforced yet, or 0.
func (e *Epochs) Learn(current []Epoch, asked time.Time, pending time.Duration) {
	if k := e.known.Load(); k == nil || k.away || !asked.Before(k.asked) { // otherwise an older answer came late
		e.known.Store(&knownEpochs{current: current, asked: asked, enforced: asked.Add(-pending)})
	}
}

// Prolong records that a question to the ledger failed, which was sent at the time asked. Trust goes
// on, because nobody can begin an epoch while the ledger is away. That is sound only if it is away for
// everybody. Trust that had lapsed does not come back, because an epoch may have begun in between.
func (e *Epochs) Prolong(asked time.Time) {
	if k := e.known.Load(); k != nil && !asked.After(k.asked.Add(epochTrust)) {
		e.known.Store(&knownEpochs{current: k.current, asked: asked, enforced: k.enforced, away: true})
	}
}

// Current returns the epochs whose servers are trusted now. The parameter failed is the time of a
// server's latest failure, or zero. A revocation may have failed with it, so the server is not
// trusted until every revocation from before is enforced. While the ledger is away it is trusted all
// the same: nobody else could decide, and no revocation is acknowledged then.
func (e *Epochs) Current(now, failed time.Time) []Epoch {
	k := e.known.Load()
	if k == nil || now.After(k.asked.Add(epochTrust)) || failed.After(k.enforced) && !k.away {
		return nil
	}
	return k.current
}

// EpochDocument is what sessiond tells verifiers in other processes.
type EpochDocument struct {
	Epochs    []Epoch `json:"epochs"`
	AgeMS     int64   `json:"age_ms"`     // how long ago the ledger was asked
	PendingMS int64   `json:"pending_ms"` // age of the oldest revocation that was not enforced then, or 0
}

// Document returns what [FetchEpochs] reads. It has no epochs if trust has lapsed. Document returns
// ErrUnavailable before the first answer of the ledger.
func (e *Epochs) Document(now time.Time) (EpochDocument, error) {
	k := e.known.Load()
	if k == nil {
		return EpochDocument{}, fmt.Errorf("%w: the ledger has not said which Redis counts", ErrUnavailable)
	}
	return EpochDocument{
		Epochs:    append([]Epoch{}, e.Current(now, time.Time{})...),
		AgeMS:     now.Sub(k.asked).Milliseconds(),
		PendingMS: k.asked.Sub(k.enforced).Milliseconds(),
	}, nil
}

// FetchEpochs fetches the current epochs from sessiond, https://…/.well-known/sessiond-epochs, every
// second until ctx ends. If sessiond does not answer, trust goes on. FetchEpochs returns after the
// first attempt, even if that failed. The [Fallback] then decides all checks.
//
// Trust ends at most 3 s after sessiond asked the ledger, with a cache of 1 s in between. A server
// that took over acknowledges no revocation in its first 4 s.
func FetchEpochs(ctx context.Context, documentURL string, o RemoteOptions) (*Epochs, error) {
	if err := o.checkURL(documentURL); err != nil {
		return nil, fmt.Errorf("session.FetchEpochs: %w", err)
	}
	e, client := &Epochs{}, o.client()
	fetch := func() {
		limited, cancel := context.WithTimeout(ctx, EpochTimeout)
		defer cancel()
		asked := time.Now()
		var d EpochDocument
		var cached uint64 // for how many seconds
		r, err := http.NewRequestWithContext(limited, http.MethodGet, documentURL, nil)
		if err == nil {
			var body []byte
			var header http.Header
			if body, header, err = roundTrip(client, r); err == nil {
				cached, _ = strconv.ParseUint(header.Get("Age"), 10, 31) // RFC 9111 section 5.1
				err = json.Unmarshal(body, &d)
			}
		}
		if err != nil {
			e.Prolong(asked)
			return
		}
		asked = asked.Add(-time.Duration(cached)*time.Second - time.Duration(d.AgeMS)*time.Millisecond)
		e.Learn(d.Epochs, asked, time.Duration(d.PendingMS)*time.Millisecond)
	}
	fetch()
	go func() {
		tick := time.NewTicker(EpochInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				fetch()
			}
		}
	}()
	return e, nil
}
