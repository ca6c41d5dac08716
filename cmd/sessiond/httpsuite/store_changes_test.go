package httpsuite

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/sqlstore"
	"github.com/sessiond/sessiond/sqlstore/sqlstoretest"
)

// The metrics and the log must show each change of state of Redis and Postgres, once.
func TestStoreChanges_AreLoggedAndCounted_ASVS_V16_3_4(t *testing.T) {
	t.Parallel()
	redisURL := redisstoretest.StartServer(t, "--enable-debug-command", "yes")
	client := redis.NewClient(&redis.Options{Addr: strings.TrimPrefix(redisURL, "redis://")})
	t.Cleanup(func() { _ = client.Close() })
	redisProxy := startProxy(t, strings.TrimPrefix(redisURL, "redis://"))
	database, err := url.Parse(sqlstoretest.PostgresURL(t))
	if err != nil {
		t.Fatal(err)
	}
	db, err := sqlstore.Open(t.Context(), database.String(), sqlstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	databaseProxy := startProxy(t, database.Host)
	database.Host = databaseProxy.addr
	metricsAddr := freeAddr(t)
	s := startServe(t, 1, "REDIS_URL=redis://"+redisProxy.addr, "DATABASE_URL="+database.String(), "METRICS_ADDR="+metricsAddr)

	// metric returns the value of a metric, or -1 if there is none.
	metric := func(name string) (value float64) {
		t.Helper()
		text := string(callAt(t, "http://"+metricsAddr, "GET", "/metrics").want(t, 200).body)
		for line := range strings.Lines(text) {
			if rest, ok := strings.CutPrefix(line, name+" "); ok {
				if _, err := fmt.Sscan(rest, &value); err != nil {
					t.Fatal(err)
				}
				return value
			}
		}
		return -1
	}
	count := func(change string) float64 {
		return metric(`sessiond_store_changes_total{change="` + change + `"}`)
	}
	in := func(state string) float64 { return metric(`sessiond_store_state{state="` + state + `"}`) }
	// awaitChange waits until a change was counted n times, and checks that the replica is in a state.
	awaitChange := func(change string, n float64, state string) {
		t.Helper()
		await(t, fmt.Sprint("the change ", change, " is counted ", n, " times"), func() bool { return count(change) >= n })
		await(t, "the state "+state, func() bool { return in(state) == 1 })
	}

	for _, change := range issuer.Changes {
		if count(change) < 0 {
			t.Errorf("there is no counter of the change %s", change)
		}
	}
	for _, state := range issuer.States {
		if in(state) < 0 {
			t.Errorf("there is no gauge of the state %s", state)
		}
	}
	awaitChange("epoch_begun", 1, "trusted")

	redisProxy.cut()
	awaitChange("redis_away", 1, "redis_away")
	if got := metric("sessiond_redis_trusted"); got != 0 {
		t.Errorf("while Redis is away, sessiond_redis_trusted is %v", got)
	}
	redisProxy.mend()
	awaitChange("trusted", 2, "trusted")

	databaseProxy.cut()
	awaitChange("ledger_away", 1, "ledger_away")
	databaseProxy.mend()
	awaitChange("ledger_back", 1, "trusted")

	if err := client.Do(t.Context(), "DEBUG", "CHANGE-REPL-ID").Err(); err != nil {
		t.Fatal(err)
	}
	awaitChange("server_changed", 1, "trusted")
	awaitChange("epoch_begun", 2, "trusted")

	tokens := s.manyLogins(t, s.register(t), 20)
	await(t, "checks read sessions back", func() bool {
		if err := client.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		var checks sync.WaitGroup
		for _, token := range tokens {
			checks.Go(func() { s.alive(t, token) })
		}
		checks.Wait()
		return count("reading_back") >= 1
	})
	if checks, asked := metric("sessiond_token_checks_total"), metric("sessiond_ledger_checks_total"); asked < 20 || checks < asked {
		t.Errorf("counted %v checks and %v of them by Postgres", checks, asked)
	}
	awaitChange("reading_done", 1, "trusted")

	// Another replica begins an epoch on another server.
	table, err := db.Sessions().Epochs(t.Context())
	if err == nil {
		err = db.Sessions().BeginEpoch(t.Context(), table.Epochs[len(table.Epochs)-1].Number+1, issuer.Server{ID: "elsewhere/0/"})
	}
	if err != nil {
		t.Fatal(err)
	}
	awaitChange("epoch_seen", 1, "superseded")

	for _, change := range issuer.Changes {
		await(t, "the log has a line for each change "+change, func() bool {
			return float64(strings.Count(s.logs.String(), `"change":"`+change+`"`)) == count(change)
		})
	}
}
