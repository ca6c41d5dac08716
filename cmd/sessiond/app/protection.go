package app

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sessiond/sessiond/identity/hashing"
)

// protection counts what the protection of logins does. It is an
// [hashing.Observer] and an
// [identity.Observer].
type protection struct {
	registry     prometheus.Registerer
	waited, took prometheus.Histogram
	shed         *prometheus.CounterVec
	limited      *prometheus.CounterVec
	breached     *prometheus.CounterVec
}

// newProtection registers the metrics.
func newProtection(r prometheus.Registerer) *protection {
	p := &protection{
		registry: r,
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sessiond_password_hash_wait_seconds",
			Help:    "Time that a login waited for its turn to be hashed.",
			Buckets: []float64{.001, .005, .025, .1, .25, .5, 1, 2, 3, 4, 5},
		}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "sessiond_password_hash_duration_seconds",
			Help:    "Time that a password hash took.",
			Buckets: []float64{.001, .005, .01, .025, .05, .075, .1, .15, .25, .5, 1, 2.5},
		}),
		shed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sessiond_password_hash_shed_total",
			Help: "Requests turned away because too many waited before them, by reason.",
		}, []string{"reason"}),
	}
	p.limited = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sessiond_limiter_decisions_total",
		Help: "What the limits said, by action, decision and whose limits: the shared ones or, with Redis down, this replica's.",
	}, []string{"action", "decision", "limits"})
	p.breached = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "sessiond_breached_password_checks_total",
		Help: "Answers of the service that knows breached passwords.",
	}, []string{"answer"})
	// There from the start, or a first one is no increase.
	for _, reason := range []string{"full", "account", "late"} {
		p.shed.WithLabelValues(reason)
	}
	for _, answer := range []string{"no", "yes", "unavailable"} {
		p.breached.WithLabelValues(answer)
	}
	r.MustRegister(p.waited, p.took, p.shed, p.limited, p.breached)
	return p
}

// watch shows how many wait.
func (p *protection) watch(q *hashing.Queue) {
	p.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sessiond_password_hash_queue_length",
		Help: "Logins that wait for their turn to be hashed.",
	}, func() float64 { return float64(q.Len()) }))
}

func (p *protection) Hashed(waited, took time.Duration) {
	p.waited.Observe(waited.Seconds())
	p.took.Observe(took.Seconds())
}

func (p *protection) Shed(reason string) { p.shed.WithLabelValues(reason).Inc() }

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

func (p *protection) Breached(answer string) { p.breached.WithLabelValues(answer).Inc() }
