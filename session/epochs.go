package session

import (
	"context"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
)

// Epoch is a span of time in which one Redis server counts. The ledger numbers the epochs. An entry
// of a session counts only on the server, and in the epoch, that it was written in.
type Epoch struct {
	Number int64  `json:"number"`
	Server string `json:"server"` // its master_replid, and where the keys are on it
}

const (
	// epochTrust is how long after the ledger was asked its answer is trusted.
	epochTrust = 2 * time.Second
	// EpochInterval is the time between two questions to the ledger.
	EpochInterval = time.Second
	// EpochTimeout bounds such a question. It is shorter than the interval. Otherwise trust would
	// lapse while a ledger that is away lets the question hang.
	EpochTimeout = 800 * time.Millisecond
)

// Epochs is what a verifier knows of the current epochs. The zero value trusts no server. One
// goroutine updates it, and any number of checks read it without a lock.
type Epochs struct{ known atomic.Pointer[knownEpochs] }

type knownEpochs struct {
	current []Epoch
	asked   time.Time // when the ledger was asked for them
	until   time.Time // when trust in them ends
	// enforced is the time before which every recorded revocation is enforced in Redis.
	enforced time.Time
	// away says that the latest question to the ledger failed.
	away bool
}

// Learn takes the answer of a ledger that was asked at the time asked: the current epochs, and the
// age of the oldest recorded revocation that is not enforced yet, or 0.
func (e *Epochs) Learn(current []Epoch, asked time.Time, pending time.Duration) {
	if k := e.known.Load(); k != nil && !k.away && asked.Before(k.asked) {
		return // an older answer, which came late or from another replica
	}
	e.known.Store(&knownEpochs{current: current, asked: asked, until: asked.Add(epochTrust), enforced: asked.Add(-pending)})
}

// Prolong takes note that a ledger that was asked at the time asked is away. Nobody can begin an
// epoch then, so trust goes on. Trust that had lapsed before does not come back, because an epoch
// may have begun in between.
func (e *Epochs) Prolong(asked time.Time) {
	k := e.known.Load()
	if k == nil || asked.After(k.until) {
		return
	}
	next := *k
	next.asked, next.until, next.away = asked, asked.Add(epochTrust), true
	e.known.Store(&next)
}

// Current returns the epochs whose servers are trusted now. The parameter failed is the time of the
// server's latest failure, or zero. A revocation may have failed with it, so the server is not
// trusted until every revocation from before is enforced. While the ledger is away the server is
// trusted all the same: otherwise nobody could decide, and no revocation of that time was
// acknowledged.
func (e *Epochs) Current(now, failed time.Time) []Epoch {
	k := e.known.Load()
	if k == nil || now.After(k.until) || failed.After(k.enforced) && !k.away {
		return nil
	}
	return k.current
}

// epochDocument is what sessiond tells verifiers in other processes.
type epochDocument struct {
	Epochs    []Epoch `json:"epochs"`
	AgeMS     int64   `json:"age_ms"`     // how long ago the ledger was asked
	PendingMS int64   `json:"pending_ms"` // age of the oldest revocation that was not enforced then, or 0
}

// Document returns what [FetchEpochs] reads, as JSON. It has no epochs if trust has lapsed.
func (e *Epochs) Document(now time.Time) ([]byte, error) {
	d := epochDocument{Epochs: []Epoch{}}
	if k := e.known.Load(); k != nil && !now.After(k.until) {
		d = epochDocument{
			Epochs: append(d.Epochs, k.current...),
			AgeMS:  now.Sub(k.asked).Milliseconds(), PendingMS: k.asked.Sub(k.enforced).Milliseconds(),
		}
	}
	return json.Marshal(d)
}

// FetchEpochs fetches the current epochs from sessiond, https://…/.well-known/sessiond-epochs, every
// second until ctx ends. If sessiond does not answer, trust in them goes on. FetchEpochs returns
// after the first attempt, even if it failed: then the [Fallback] decides all checks.
//
// Answers of sessiond, and of a cache in between, are at most three seconds older than the end of
// trust in them. A server that took over acknowledges no revocation in its first four.
func FetchEpochs(ctx context.Context, documentURL string, o RemoteOptions) (*Epochs, error) {
	if err := o.checkURL(documentURL); err != nil {
		return nil, fmt.Errorf("session.FetchEpochs: %w", err)
	}
	e, client := &Epochs{}, o.client()
	fetch := func() {
		asked := time.Now()
		d, err := fetchEpochs(ctx, client, documentURL)
		if err != nil {
			e.Prolong(asked)
			return
		}
		ms := time.Millisecond
		e.Learn(d.Epochs, asked.Add(-time.Duration(d.AgeMS)*ms), time.Duration(d.PendingMS)*ms)
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

func fetchEpochs(ctx context.Context, client *http.Client, documentURL string) (d epochDocument, err error) {
	ctx, cancel := context.WithTimeout(ctx, EpochTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, documentURL, nil)
	if err != nil {
		return d, err
	}
	body, err := roundTrip(client, r)
	if err == nil {
		err = json.Unmarshal(body, &d)
	}
	return d, err
}
