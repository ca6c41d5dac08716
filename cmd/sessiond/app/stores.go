package app

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/sessiond/sessiond/session/issuer"
)

// watchStores registers the metrics that say how this replica finds Redis and the ledger.
func watchStores(r prometheus.Registerer, m *issuer.Manager) {
	f := promauto.With(r)
	value := map[bool]float64{true: 1}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sessiond_redis_trusted",
		Help: "1 if checks trust the Redis servers of this replica, 0 if they ask the database.",
	}, func() float64 { return value[m.Trusted() == nil] })
	for _, state := range issuer.States {
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "sessiond_store_state",
			Help:        "1 if this replica is in this state, as the latest poll found, otherwise 0.",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return value[m.In(state)] })
	}
	changes := f.NewCounterVec(prometheus.CounterOpts{
		Name: "sessiond_store_changes_total",
		Help: "Changes of state that this replica saw. The log has a line for each.",
	}, []string{"change"})
	for _, change := range issuer.Changes {
		changes.WithLabelValues(change) // with the value 0, see newProtection
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sessiond_epoch",
		Help: "Number of the latest epoch that this replica knows. It rises whenever another Redis server takes over, or the same one after a restart.",
	}, func() float64 { return float64(m.Epoch()) })
	m.Changed = func(change string) { changes.WithLabelValues(change).Inc() }
	watchChecks(r, m.Counts)
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "sessiond_token_checks_total",
		Help: "Checks of access tokens that were neither malformed, badly signed nor expired.",
	}, func() float64 { return float64(m.Counts.Checks.Load()) })
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "sessiond_ledger_checks_total",
		Help: "Those of sessiond_token_checks_total that asked the database, because Redis did not know the session or was not trusted.",
	}, func() float64 { return float64(m.Counts.Fallbacks.Load()) })
}
