package faultsuite

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
)

// fault is one row of the matrix.
type fault struct {
	number  int
	name    string
	on      topology
	promise string // what must hold besides: no revoked session accepted, nobody signed out, nothing lost
	short   int    // injections in the short form; 0: only in the long form
	long    int    // injections in the long form
	quiet   bool   // without the random load
	behind  bool   // the random load sends every request through HAProxy, which must answer it
	limits  limits
	run     func(r *row)
}

// limits are what the row promises of checks during the fault and after it; 0: nothing. Only the long
// form, which wants a quiet machine, compares.
type limits struct {
	answered float64       // the share of checks that is answered during the fault, in %
	p99      time.Duration // of the latency of checks during the fault
	recovery time.Duration // from the end of the fault until each replica answers checks
}

// faults are all rows of the matrix that can be injected, by number.
var faults = []fault{
	redisKilled,       // 1
	redisFlushed,      // 2
	redisRestored,     // 3
	failover,          // 4
	plannedFailover,   // 5
	isolatedMaster,    // 6
	redisCutOff,       // 7
	redisHangs,        // 8
	redisFull,         // 9
	redisDropsClients, // 10
	clusterMoves,      // 11
	postgresAway,      // 12
	cutCommit,         // 13
	bothStoresDown,    // 14
	replicaKilled,     // 15
	clocksApart,       // 16
	clientsVanish,     // 17
	twoMasters,        // 18
	thereAndBack,      // 19
	keptSession,       // 20
	lostCommit,        // 21
	busyMachine,       // 22
	rolling,           // 23
}

var (
	injections  = flag.Int("injections", 0, "injections of each fault; 0: as many as the short or the long form has")
	rate        = flag.Int("rate", 200, "checks a second")
	timelineDir = flag.String("timeline", "", "directory for an SVG of each row; empty: none")
	binary      = flag.String("program", "", "the sessiond to test; empty: build it")
	oldProgram  = flag.String("old", "", "the version of sessiond that row 23 upgrades; empty: build versionBefore")
)

// budget is how long the short form may begin new injections. Every row gets at least one.
const budget = 75 * time.Second

func isLong() bool { return recorded() || *injections > 0 }

// recorded is the long form whose figures the documents give. Its checks go on for a minute after a fault.
func recorded() bool { return os.Getenv("SESSIOND_TEST_LONG") == "1" }

func TestFaults_ASVS_V2_3_3_V7_4_1_V16_5_2_V16_5_3(t *testing.T) {
	began := time.Now()
	dir := tempDir(t)
	t.Cleanup(func() { t.Logf("all rows took %v", time.Since(began).Round(time.Second)) })
	shared := &outer{t, t}
	pg := startPostgres(shared, dir)
	rigs := map[topology]*rig{}
	for _, f := range faults {
		n := f.short
		if isLong() {
			n = f.long
		}
		if *injections > 0 {
			n = *injections
		}
		if !isLong() && n > 1 && time.Since(began) > budget {
			n = 1
		}
		t.Run(fmt.Sprintf("row_%02d", f.number), func(t *testing.T) {
			if n == 0 {
				t.Skip("runs in the long form: SESSIOND_TEST_LONG=1")
			}
			shared.TB = t
			if rigs[f.on] == nil {
				rigs[f.on] = startRig(shared, dir, pg, f.on)
			}
			t.Cleanup(func() {
				if t.Failed() { // the next row starts with servers of its own
					rigs[f.on].stop()
					rigs[f.on] = nil
				}
			})
			runRow(t, rigs[f.on], f, n)
		})
	}
}

// outer is the test of the row that runs now, but its cleanups run at the end of the test around
// it, because rows share their servers.
type outer struct {
	testing.TB
	around testing.TB
}

func (o *outer) Cleanup(f func()) { o.around.Cleanup(f) }

// tempDir returns a directory that the servers' user can enter.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sessiond-faults-") //nolint:usetesting // t.TempDir is closed to the servers' user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

var built struct {
	sync.Once
	dir, path string
	err       error
}

// program returns the path of sessiond. It builds it once, without the race detector, with which
// password hashes would take seconds.
func program(t testing.TB) string {
	t.Helper()
	if *binary != "" {
		return *binary
	}
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "sessiond-built-"); built.err != nil { //nolint:usetesting // it outlives the first test that needs it
			return
		}
		built.path = filepath.Join(built.dir, "sessiond")
		out, err := exec.Command("go", "build", "-o", built.path, "..").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

func TestMain(m *testing.M) {
	flag.Parse()
	redis.SetLogger(silent{})
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		for _, dir := range []string{built.dir, before.dir} {
			if dir != "" {
				_ = os.RemoveAll(dir)
			}
		}
		os.Exit(status)
	}))
}

// silent drops go-redis's log. The suite's own clients fail whenever a fault stops their server.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
