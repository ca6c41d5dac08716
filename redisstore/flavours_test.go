package redisstore_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
)

// TestStore_WorksOnOtherServers runs the most important tests on each of the programs in
// SESSIOND_TEST_REDIS_FLAVOURS, such as valkey-server. deploy/flavours.sh runs all tests on them.
func TestStore_WorksOnOtherServers(t *testing.T) {
	programs := filepath.SplitList(os.Getenv("SESSIOND_TEST_REDIS_FLAVOURS"))
	if len(programs) == 0 {
		t.Skip("NOT TESTED on Valkey and other versions of Redis, because SESSIOND_TEST_REDIS_FLAVOURS is not set")
	}
	for _, program := range programs {
		t.Run(filepath.Base(filepath.Dir(program)), func(t *testing.T) {
			t.Setenv("SESSIOND_TEST_REDIS_SERVER", program)
			redisURL := redisstoretest.StartServer(t)
			t.Run("through Sentinel", func(t *testing.T) { testRevocation(t, redisstoretest.StartSentinel(t, redisURL)) })
			t.Run("on a Cluster", func(t *testing.T) {
				clusterURL, _ := startCluster(t)
				testRevocation(t, clusterURL)
			})
			t.Run("users.acl", testUsersACL)
			report, err := redisstoretest.Open(t, redisURL, redisstore.Options{}).Inspect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wantInspected(t, report)
			if n := report.Nodes[0]; (n.Valkey != "") != strings.Contains(program, "valkey") {
				t.Errorf("the server of %s is Redis %q, Valkey %q", program, n.Version, n.Valkey)
			}
			t.Logf("tested on Redis %s, Valkey %q", report.Nodes[0].Version, report.Nodes[0].Valkey)
		})
	}
}
