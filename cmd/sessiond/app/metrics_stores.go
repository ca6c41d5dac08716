package app

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/sqlstore"
)

const (
	measureInterval = 5 * time.Second
	measureTimeout  = 2 * time.Second
	// measuredFor is how long a measure counts. After that, /metrics has no such series.
	measuredFor = 30 * time.Second
)

// measures are metrics that must be asked for. Run asks in the background, so that a request for /metrics
// never waits for a database or for Redis.
type measures struct {
	db    *sqlstore.DB
	redis *redisstore.Store // may be nil
	now   func() time.Time  // the clock that all replicas share

	database atomic.Pointer[databaseMeasures]
	pool     atomic.Pointer[redis.PoolStats]
}

type databaseMeasures struct {
	sqlstore.Measures
	at time.Time
}

var (
	outboxLength = prometheus.NewDesc("sessiond_outbox_length",
		"Entries of the outbox, by kind: mail, or revocation that Redis does not enforce yet. It is 10,000 at most. All replicas report the same. Missing while the database does not answer.",
		[]string{"kind"}, nil)
	outboxAge = prometheus.NewDesc("sessiond_outbox_oldest_seconds",
		"Age of the oldest entry of the outbox, by kind, or 0 if it is empty. All replicas report the same. Missing while the database does not answer.",
		[]string{"kind"}, nil)
	sessionEstimate = prometheus.NewDesc("sessiond_sessions_estimate",
		"About how many sessions are active: what PostgreSQL's planner expects by its latest ANALYZE. Sessions that ended with all others of their user count until they expire. All replicas report the same. Missing while the database does not answer.",
		nil, nil)
	userEstimate = prometheus.NewDesc("sessiond_users_estimate",
		"About how many users may sign in: what PostgreSQL's planner expects by its latest ANALYZE. All replicas report the same. Missing while the database does not answer.",
		nil, nil)
	poolConnections = prometheus.NewDesc("sessiond_redis_pool_connections",
		"Connections to Redis, by state, on a Cluster to all its servers.", []string{"state"}, nil)
	poolTimeouts = prometheus.NewDesc("sessiond_redis_pool_timeouts_total",
		"Commands to Redis that failed because no connection became free in time.", nil, nil)
	poolWaits = prometheus.NewDesc("sessiond_redis_pool_waits_total",
		"Commands to Redis that waited for a connection.", nil, nil)
)

// newMeasures registers the metrics of the connections to both stores, and the measures.
func newMeasures(r prometheus.Registerer, db *sqlstore.DB, store any, now func() time.Time) *measures {
	f := promauto.With(r)
	m := &measures{db: db, now: now}
	for name, pool := range db.Pools() {
		r.MustRegister(collectors.NewDBStatsCollector(pool, name))
	}
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "sessiond_database_pool_timeouts_total",
		Help: "Calls to the database that failed because no connection became free in time.",
	}, func() float64 { return float64(db.PoolTimeouts()) })
	if m.redis, _ = store.(*redisstore.Store); m.redis != nil { // some tests have another store
		f.NewCounterFunc(prometheus.CounterOpts{
			Name: "sessiond_redis_check_round_trips_total",
			Help: "Round trips to Redis that checks took. Divided by sessiond_token_checks_total it is 1, or less if checks share round trips.",
		}, func() float64 { return float64(m.redis.LookRoundTrips()) })
	}
	r.MustRegister(m)
	return m
}

// Run asks the stores until ctx ends.
func (m *measures) Run(ctx context.Context) {
	tick := time.NewTicker(measureInterval)
	defer tick.Stop()
	for {
		m.measure(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (m *measures) measure(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	if found, err := m.db.Measure(limited, m.now()); err == nil { // otherwise the change ledger_away says it
		m.database.Store(&databaseMeasures{found, m.now()})
	}
	if m.redis != nil {
		m.pool.Store(m.redis.PoolStats())
	}
}

// Describe implements [prometheus.Collector].
func (m *measures) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{outboxLength, outboxAge, sessionEstimate, userEstimate, poolConnections, poolTimeouts, poolWaits} {
		descs <- d
	}
}

// Collect implements [prometheus.Collector].
func (m *measures) Collect(metrics chan<- prometheus.Metric) {
	report := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	now := m.now()
	if found := m.database.Load(); found != nil && now.Sub(found.at) < measuredFor {
		for kind, w := range map[string]sqlstore.Waiting{"mail": found.Mails, "revocation": found.Revocations} {
			age := time.Duration(0)
			if !w.Oldest.IsZero() {
				age = max(0, now.Sub(w.Oldest))
			}
			report(outboxLength, prometheus.GaugeValue, float64(w.Length), kind)
			report(outboxAge, prometheus.GaugeValue, age.Seconds(), kind)
		}
		report(sessionEstimate, prometheus.GaugeValue, found.Sessions)
		report(userEstimate, prometheus.GaugeValue, found.Users)
	}
	if pool := m.pool.Load(); pool != nil {
		report(poolConnections, prometheus.GaugeValue, float64(pool.IdleConns), "idle")
		report(poolConnections, prometheus.GaugeValue, float64(pool.TotalConns)-float64(pool.IdleConns), "used")
		report(poolTimeouts, prometheus.CounterValue, float64(pool.Timeouts))
		report(poolWaits, prometheus.CounterValue, float64(pool.WaitCount))
	}
}
