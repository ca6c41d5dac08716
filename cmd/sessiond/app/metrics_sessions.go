package app

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// sessionMetrics holds the metrics of sessions. It implements [issuer.Observer].
type sessionMetrics struct {
	started, refreshed, revoked, backfilled *prometheus.CounterVec
	enforced                                *prometheus.HistogramVec
	waited, took                            prometheus.Histogram
}

var _ issuer.Observer = (*sessionMetrics)(nil)

func newSessionMetrics(r prometheus.Registerer) *sessionMetrics {
	f := promauto.With(r)
	counter := func(name, help, label string, values []string) *prometheus.CounterVec {
		vector := f.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		createAll(vector, values)
		return vector
	}
	m := &sessionMetrics{
		started: counter("sessiond_session_starts_total",
			"Sessions that were to be opened after a login or a registration, by outcome. session_limit: the user has too many. outdated: the user or the password changed since the password was verified.",
			"outcome", issuer.StartOutcomes),
		refreshed: counter("sessiond_refreshes_total",
			"Refreshes by outcome. new: a new refresh token. lost_reply: the reply of the refresh before, again. theft: a replaced token was used again, and the session was revoked. ended: the session had ended or expired. invalid: the token is malformed or unknown.",
			"outcome", issuer.RefreshOutcomes),
		revoked: counter("sessiond_revocations_total",
			"Revocations that this replica recorded in the database, by reason. Each counts once, however many sessions ended. token: one access token, also the one that a new password check replaces. attributes: roles or claims changed, and no session ended.",
			"reason", issuer.RevocationReasons),
		enforced: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sessiond_revocation_enforce_seconds",
			Help:    "Time from the commit of a revocation in the database until Redis enforces it. at_once: while the client waited. outbox: later, by any replica. If a replica takes it from the outbox while the client still waits, it counts in both.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200},
		}, []string{"path"}),
		backfilled: counter("sessiond_backfills_total",
			"Checks that asked the database because Redis did not know the session, by what became of the backfill: stored, none (Redis is away, another check wrote it, or there was nothing to write), refused (a revocation came first), failed (Redis did not answer) or unread (the database did not answer, or too many checks asked it).",
			"outcome", issuer.BackfillOutcomes),
		waited: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "sessiond_backfill_wait_seconds",
			Help:    "Time that a check waited until it could ask the database. It is 150 ms at most.",
			Buckets: []float64{.0001, .001, .005, .01, .025, .05, .1, .15},
		}),
		took: f.NewHistogram(prometheus.HistogramOpts{
			Name:    "sessiond_backfill_duration_seconds",
			Help:    "Duration of reading a session from the database and writing it to Redis, without the wait.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
	}
	for _, path := range issuer.EnforcePaths {
		m.enforced.WithLabelValues(path)
	}
	return m
}

func (m *sessionMetrics) Started(outcome string)   { m.started.WithLabelValues(outcome).Inc() }
func (m *sessionMetrics) Refreshed(outcome string) { m.refreshed.WithLabelValues(outcome).Inc() }
func (m *sessionMetrics) Revoked(reason string)    { m.revoked.WithLabelValues(reason).Inc() }

func (m *sessionMetrics) Enforced(path string, took time.Duration) {
	m.enforced.WithLabelValues(path).Observe(took.Seconds())
}

func (m *sessionMetrics) Backfilled(outcome string, waited, took time.Duration) {
	m.backfilled.WithLabelValues(outcome).Inc()
	m.waited.Observe(waited.Seconds())
	if took > 0 {
		m.took.Observe(took.Seconds())
	}
}

// watchChecks registers the counters of checks. They read Counts, because a check has no time for more.
func watchChecks(r prometheus.Registerer, c *session.Counts) {
	for verdict, count := range map[string]*atomic.Uint64{
		"active": &c.Active, "revoked": &c.Revoked, "invalid": &c.Invalid, "unavailable": &c.Unavailable, "canceled": &c.Canceled,
	} {
		promauto.With(r).NewCounterFunc(prometheus.CounterOpts{
			Name:        "sessiond_check_verdicts_total",
			Help:        "Checks of access tokens by verdict. invalid: malformed, badly signed or expired. unavailable: neither Redis nor the database could say. canceled: the client left.",
			ConstLabels: prometheus.Labels{"verdict": verdict},
		}, func() float64 { return float64(count.Load()) })
	}
}
