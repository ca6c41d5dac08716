package app

import (
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/sessiond/sessiond/identity/hashing"
	"github.com/sessiond/sessiond/identity/limit"
)

// protection holds the metrics of password hashing, rate limits and breached passwords, and logs the
// refusals of queue and limits. It implements [identity.Observer], with accountMetrics, and [hashing.Observer].
type protection struct {
	refusals                *refusals
	metrics                 promauto.Factory
	waited, took            prometheus.Histogram
	shed, limited, breached *prometheus.CounterVec
	*accountMetrics
}

func newProtection(r prometheus.Registerer, log *slog.Logger) *protection {
	f := promauto.With(r)
	p := &protection{
		metrics: f, accountMetrics: newAccountMetrics(f),
		refusals: &refusals{log: log},
		waited: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "sessiond_password_hash_wait_seconds",
			Help:    "Time that a request waited in the queue for its password hash.",
			Buckets: []float64{.001, .005, .025, .1, .25, .5, 1, 2, 3, 4, 5},
		}),
		took: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "sessiond_password_hash_duration_seconds",
			Help:    "Duration of a password hash, without the wait.",
			Buckets: []float64{.001, .005, .01, .025, .05, .075, .1, .15, .25, .5, 1, 2.5},
		}),
		shed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "sessiond_password_hash_shed_total",
			Help: "Requests that the password hash queue refused, by reason: full (the queue is full), account (too many requests for the same account) or late (the request waited too long).",
		}, []string{"reason"}),
		limited: f.NewCounterVec(prometheus.CounterOpts{
			Name: "sessiond_limiter_decisions_total",
			Help: "Decisions of the rate limits, by action, decision (allowed or refused) and limits (shared by all replicas, or local to one replica while Redis is down).",
		}, []string{"action", "decision", "limits"}),
		breached: f.NewCounterVec(prometheus.CounterOpts{
			Name: "sessiond_breached_password_checks_total",
			Help: "Checks of new passwords against the breached-password service, by answer: yes (breached), no, or unavailable (the service did not answer).",
		}, []string{"answer"}),
	}
	// Create these counters with the value 0, because Prometheus does not see the first increase of
	// a counter that did not exist before.
	for _, reason := range []string{"full", "account", "late"} {
		p.shed.WithLabelValues(reason)
	}
	for _, answer := range []string{"no", "yes", "unavailable"} {
		p.breached.WithLabelValues(answer)
	}
	for _, action := range limit.Actions {
		for _, decision := range []string{"allowed", "refused"} {
			p.limited.WithLabelValues(action, decision, "shared")
			p.limited.WithLabelValues(action, decision, "local")
		}
	}
	return p
}

// watch registers a metric for the number of requests that wait in the queue q.
func (p *protection) watch(q *hashing.Queue) {
	p.metrics.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sessiond_password_hash_queue_length",
		Help: "Requests that wait in the queue for their password hash.",
	}, func() float64 { return float64(q.Len()) })
}

func (p *protection) Hashed(waited, took time.Duration) {
	p.waited.Observe(waited.Seconds())
	p.took.Observe(took.Seconds())
}

func (p *protection) Shed(reason string, v hashing.Visitor) {
	p.shed.WithLabelValues(reason).Inc()
	if reason == "account" {
		p.refusals.add(refusal{By: "queue", Account: limit.Hash(v.Account)})
	} else {
		p.refusals.add(refusal{By: "queue", Network: v.Network})
	}
}

func (p *protection) Limited(action string, allowed, shared bool) {
	decision, limits := "refused", "local"
	if allowed {
		decision = "allowed"
	}
	if shared {
		limits = "shared"
	}
	p.limited.WithLabelValues(action, decision, limits).Inc()
}

func (p *protection) Refused(rule, account, network string) {
	// The name of a rule says what it counts: requests of addresses, of networks, or at accounts.
	if account == "" || strings.HasSuffix(rule, "-address") || strings.HasSuffix(rule, "-network") {
		p.refusals.add(refusal{By: rule, Network: network})
	} else {
		p.refusals.add(refusal{By: rule, Account: limit.Hash(account)})
	}
}

func (p *protection) Breached(answer string) { p.breached.WithLabelValues(answer).Inc() }
