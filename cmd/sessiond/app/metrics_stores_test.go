package app

import (
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sessiond/sessiond/identity/mail"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/sqlstore"
)

// While the stores are away, /metrics must answer at once. What the database said is shown for a while.
func TestMeasures_VanishWhileTheDatabaseIsAway(t *testing.T) {
	db, err := sqlstore.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "db"), sqlstore.Options{})
	if err == nil {
		err = db.Migrate(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	store, err := redisstore.Open("redis://127.0.0.1:1", redisstore.Options{}) // nothing listens there
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	now := time.Now().Truncate(time.Second)
	registry := prometheus.NewRegistry()
	m := newMeasures(registry, db, store, func() time.Time { return now })
	shown := func() map[string]float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		values := map[string]float64{}
		for _, f := range families {
			for _, metric := range f.GetMetric() {
				name := f.GetName()
				for _, l := range metric.GetLabel() {
					name += " " + l.GetValue()
				}
				values[name] = metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
			}
		}
		return values
	}
	const age, length = "sessiond_outbox_oldest_seconds mail", "sessiond_outbox_length mail"
	if _, ok := shown()[age]; ok {
		t.Error("the outbox is shown before it was measured")
	}
	if err := db.Users().Enqueue(t.Context(), mail.Envelope{Kind: mail.KindPasswordReset, To: "ada@example.com"}, now.Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	m.measure(t.Context())
	now = now.Add(10 * time.Second)
	if got := shown(); got[length] != 1 || got[age] != 70 || got["sessiond_outbox_length revocation"] != 0 || got["sessiond_outbox_oldest_seconds revocation"] != 0 {
		t.Errorf("one mail waits for 70 s, but the metrics are %v", got)
	}

	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	m.Run(ended) // measures once, in vain
	if _, ok := shown()[age]; !ok {
		t.Error("the outbox vanishes at once")
	}
	now = now.Add(measuredFor)
	for _, name := range slices.Sorted(maps.Keys(shown())) {
		if strings.HasPrefix(name, "sessiond_outbox") || strings.HasSuffix(name, "_estimate") {
			t.Errorf("%s is shown, although the database is away for %v", name, measuredFor)
		}
	}
	if _, ok := shown()["sessiond_redis_pool_connections idle"]; !ok {
		t.Error("the connections to Redis vanish with the database")
	}
}
