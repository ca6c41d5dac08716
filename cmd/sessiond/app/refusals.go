package app

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// refusalPeriod is the time between two log lines about the same refused client or account.
	refusalPeriod = time.Minute
	// maxRefusals bounds the number of lines in that time. Otherwise a client with many addresses could
	// flood the log.
	maxRefusals = 1000
)

// refusal says what refused a request, and which account it named or from which network it came.
type refusal struct {
	By      string // the rule of a rate limit, or "queue"
	Account string // hash of the login name, the email address or the user's id; see limit.Hash
	Network string
}

// refusals counts refused requests, and logs one line a minute for each account or network.
type refusals struct {
	log *slog.Logger

	mu     sync.Mutex
	counts map[refusal]int
	others int // refused requests beyond maxRefusals accounts and networks
}

func (r *refusals) add(f refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = map[refusal]int{}
	}
	if _, counted := r.counts[f]; counted || len(r.counts) < maxRefusals {
		r.counts[f]++
	} else {
		r.others++
	}
}

// Run logs the refused requests every minute, and once more when ctx is done.
func (r *refusals) Run(ctx context.Context) {
	ticker := time.NewTicker(refusalPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			r.flush(ctx)
		case <-ctx.Done():
			r.flush(ctx)
			return
		}
	}
}

func (r *refusals) flush(ctx context.Context) {
	r.mu.Lock()
	counts, others := r.counts, r.others
	r.counts, r.others = nil, 0
	r.mu.Unlock()
	for f, n := range counts {
		who := slog.String("network", f.Network)
		if f.Account != "" {
			who = slog.String("account", f.Account)
		}
		r.log.WarnContext(ctx, "requests refused", slog.String("by", f.By), who, slog.Int("count", n))
	}
	if others > 0 {
		r.log.WarnContext(ctx, "requests of further accounts and networks refused", slog.Int("count", others))
	}
}
