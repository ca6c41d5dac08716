package size

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

func near(got, want float64) bool { return math.Abs(got-want) <= 1e-6*math.Abs(want) }

func TestFit_ReturnsTheCostOfBothMeasurements(t *testing.T) {
	c := Fit(10, 2, 4, 8) // 10 = check + trip/2, 4 = check + trip/8
	if !near(c.Check, 2) || !near(c.Trip, 16) || !near(c.At(2), 10) || !near(c.At(8), 4) {
		t.Errorf("%+v; want check 2 and trip 16", c)
	}
}

func TestBatch_IsAtLeastOne(t *testing.T) {
	for waiting, want := range map[float64]float64{0: 1, 2: 1, 3: 1, 96: 32} {
		if got := Batch(waiting); got != want {
			t.Errorf("Batch(%v) = %v, want %v", waiting, got, want)
		}
	}
}

// exampleLoad returns costs and a load whose results can be computed in one's head.
func exampleLoad() (Load, Costs) {
	write := Write{CPU: 1, WAL: 1000, Pages: 2}
	l := Load{
		Users: 1e6, Active: 0.36, Sessions: 1, Checks: 2, Refreshes: 1, Logins: 2.592, Peak: 1, Retention: 30,
		Way: Ways[0], Cores: 2, ReplicaUse: 0.5, ShardUse: 0.5, RoundTrip: 0.1, Spare: 1, Conns: 18, Checkpoint: 10,
	}
	c := Costs{
		Service: map[string]Cost{Ways[0]: {Check: 50, Trip: 50}}, Redis: Cost{Check: 5, Trip: 15},
		Login: 100, Refresh: 1, Backfill: 0.5, Limit: 100, RedisSession: 500, User: 1000, Session: 1000, Event: 500,
		PostgresLogin: write, PostgresRefresh: write, PostgresUse: write,
	}
	return l, c
}

func TestPredict_AddsUpTheCosts(t *testing.T) {
	s := Predict(exampleLoad())
	for name, c := range map[string]struct{ got, want float64 }{
		"sessions in use": {s.Live, 360_000},
		"checks":          {s.Checks, 12_000},
		"refreshes":       {s.Refreshes, 100},
		"logins":          {s.Logins, 1},
		"last-seen times": {s.Uses, 6000}, // one a minute for each session, though it is checked twice
		"batch":           {s.Batch, 1},   // 12,000 / 3 replicas × 0.1 ms: 0.4 checks wait
		// 12,000 × 100 µs, a login, 100 refreshes, and 101 backfills
		"cores of the service": {s.ServiceCores, 1.2 + 0.1 + 0.1 + 0.0505},
		"replicas":             {float64(s.Replicas), 2 + 1}, // each gives one core; one is to spare
		"cores of Redis":       {s.RedisCores, 0.24 + 101*120e-6},
		"shards":               {float64(s.Shards), 1},
		"memory of Redis":      {s.RedisGB, 0.27},
		"rate limits":          {s.LimitsShare, 0.0101},
		"rows":                 {s.Rows, 2_592_000},
		"Postgres":             {s.PostgresGB, 1 + 2.592*1.5},
		"cores of Postgres":    {s.PostgresCores, 6.101},
		"transactions":         {s.Commits, 1 + 100 + 6000.0/500},
		"connections":          {float64(s.Connections), 60},
		"servers":              {float64(s.Servers), 25},
		"partitions":           {float64(s.Partitions), 0},
		// In 10 minutes, each of the 360,000 sessions in use is written once, and a sixth of them is refreshed.
		"IOPS": {s.IOPS, 113 + 2*(1+100+600)},
		"WAL":  {s.WALMB, 6.101 + 2*(1+100+600)*8192e-6},
	} {
		if !near(c.got, c.want) {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
}

func TestPredict_AddsShardsUntilRedisHasEnoughCPU(t *testing.T) {
	l, c := exampleLoad()
	l.Users *= 100 // 1.2 million checks a second
	s := Predict(l, c)
	if s.RedisCores > float64(s.Shards)*l.ShardUse {
		t.Errorf("%d shards have too little CPU for %v cores", s.Shards, s.RedisCores)
	}
	fewer := s
	fewer.Shards--
	if fewer.size(l, c); fewer.RedisCores <= float64(fewer.Shards)*l.ShardUse {
		t.Errorf("%d shards are enough, not %d", fewer.Shards, s.Shards)
	}
}

func TestPredict_LargerReplicasNeedFewerShards(t *testing.T) {
	l, c := exampleLoad()
	l.Users, l.RoundTrip = 10*l.Users, 2
	small := Predict(l, c)
	l.Cores = 16 // a batch has the checks of one replica, so fewer replicas have larger batches
	if large := Predict(l, c); large.Batch <= small.Batch || large.Shards >= small.Shards || large.RedisCores >= small.RedisCores || large.ServiceCores >= small.ServiceCores {
		t.Errorf("batches %v, then %v; shards %d, then %d; cores %v, then %v", small.Batch, large.Batch, small.Shards, large.Shards, small.ServiceCores, large.ServiceCores)
	}
}

func TestPredict_VerifiersInOtherServicesRecordNoUses(t *testing.T) {
	l, c := exampleLoad()
	l.Way, c.Service[inProcess] = inProcess, Cost{Check: 5, Trip: 5}
	if s := Predict(l, c); s.Uses != 0 || !near(s.ServiceCores, 0.12+0.2505) {
		t.Errorf("%v uses, %v cores; want 0 and 0.3705", s.Uses, s.ServiceCores)
	}
}

func TestPredict_PartitionsTheHistoryFrom50MillionRows(t *testing.T) {
	l, c := exampleLoad()
	l.Users *= 20
	if s := Predict(l, c); s.Partitions != 2 {
		t.Errorf("%v rows in %d partitions, want 2: this month and the one before", s.Rows, s.Partitions)
	}
}

func TestParse_RefusesMissingCosts(t *testing.T) {
	if _, err := Measured(); err != nil {
		t.Errorf("costs.json: %v", err)
	}
	whole := string(measured)
	for _, name := range []string{"trip", "login_cpu_ms", "gRPC", "wal_bytes", "postgres_event_bytes"} {
		if _, err := Parse([]byte(strings.ReplaceAll(whole, `"`+name+`"`, `"x"`))); err == nil {
			t.Errorf("accepted costs without %s", name)
		}
	}
}

func TestPrint_HasAColumnForEachNumberOfUsers(t *testing.T) {
	l, c := exampleLoad()
	var out bytes.Buffer
	Print(&out, []Size{Predict(l, c)})
	for _, want := range []string{"| users | 1 million |\n| --- | ---: |\n", "| checks a second | 12,000 |\n", "| **replicas** | 3 |\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

func TestNumber_HasTwoDigitsThatCount(t *testing.T) {
	for n, want := range map[float64]string{0: "0", 0.0123: "0.012", 3.14: "3.1", 7: "7", 143: "140", 1234: "1,200", 99_900: "100,000", 123456: "120,000", 12_345_678: "12 million", 1e9: "1 billion"} {
		if got := Number(n); got != want {
			t.Errorf("Number(%v) = %q, want %q", n, got, want)
		}
	}
}
