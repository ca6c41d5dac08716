package redisstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/session/issuer/storetest"
)

// command sends a command to the Redis server and fails the test if the server refuses it.
func (v *testStore) command(t *testing.T, command string) {
	t.Helper()
	if err := v.client.Do(t.Context(), words(command)...).Err(); err != nil {
		t.Fatalf("%s: %v", command, err)
	}
}

func words(command string) (args []any) {
	for word := range strings.FieldsSeq(command) {
		args = append(args, word)
	}
	return args
}

func (v *testStore) wantRefused(t *testing.T, why string) {
	t.Helper()
	got, err := v.Look(t.Context(), v.ref)
	if !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), why) || got.HasEntry || got.HasGeneration {
		t.Errorf("Look = %+v, %v; want ErrUnavailable for %s", got, err, why)
	}
}

func (v *testStore) wantActive(t *testing.T) {
	t.Helper()
	if got, err := v.Look(t.Context(), v.ref); err != nil || !got.HasEntry || got.Entry.Ended || !got.HasGeneration || got.TokenRevoked {
		t.Errorf("Look = %+v, %v; want an active session", got, err)
	}
}

func (v *testStore) wantUnknown(t *testing.T) {
	t.Helper()
	if got, err := v.Look(t.Context(), v.ref); err != nil || got.HasEntry && (got.HasGeneration || got.Entry.Ended) || got.TokenRevoked {
		t.Errorf("Look = %+v, %v; want an unknown session", got, err)
	}
}

// eventually waits until done returns true, for at most a minute.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !done(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// TestLook_FailsOnReplica checks that a lookup never trusts the data of a Redis replica, even on a
// connection that was opened while the server was still a master.
func TestLook_FailsOnReplica(t *testing.T) {
	t.Parallel()
	// By default, a Redis master waits 5 s for more replicas before it sends its data to the first.
	masterURL := redisstoretest.StartServer(t, "--repl-diskless-sync-delay", "0")
	otherURL := redisstoretest.StartServer(t, "--repl-diskless-sync-delay", "0")
	master := newTestStore(t, masterURL)
	w, wired := wireTo(t, otherURL)
	other := newTestStore(t, wired)
	other.Store = redisstoretest.Open(t, wired, redisstore.Options{Prefix: master.prefix})

	master.backfill(t, active(1, time.Now().Add(time.Hour)))
	if _, err := other.Look(t.Context(), other.ref); err != nil { // Look opens a connection before the server becomes a replica
		t.Fatal(err)
	}
	other.command(t, "REPLICAOF "+strings.NewReplacer("redis://", "", ":", " ").Replace(masterURL))
	eventually(t, "the replica has the entry", func() bool {
		return other.client.Exists(t.Context(), master.prefix+"s:{ada}:s1").Val() == 1
	})
	// A Redis master gets a new master_replid when its first replica connects, so old entries are
	// unknown.
	master.wantUnknown(t)
	redisstoretest.Trust(t, master.Store)
	master.backfill(t, active(1, time.Now().Add(time.Hour)))
	// The store must not retry, because a replica refuses the second attempt too.
	if trips := w.tripsOf(func() { other.wantRefused(t, "READONLY") }); trips > 1 {
		t.Errorf("a lookup on a replica took %d round trips, want at most 1", trips)
	}
	if _, err := other.Apply(t.Context(), issuer.Revocation{Subject: "ada", SessionID: "s1"}); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("Apply on a replica = %v, want ErrUnavailable", err)
	}
	if _, ok, err := other.Lease(t.Context(), other.ref); ok {
		t.Errorf("Lease on a replica = %t, %v, want none", ok, err)
	}
	report, err := other.Inspect(t.Context())
	if err != nil || report.Nodes[0].Role != "slave" {
		t.Errorf("Inspect = %+v, %v, want a replica", report, err)
	}

	// A replica that became the master may lack a revocation, so its entries count as unknown.
	other.command(t, "REPLICAOF NO ONE")
	other.wantUnknown(t)
	// Lookups also fail if a master becomes a replica while a connection to it is open.
	master.wantActive(t)
	master.command(t, "REPLICAOF "+strings.NewReplacer("redis://", "", ":", " ").Replace(otherURL))
	master.wantRefused(t, "")
	master.command(t, "REPLICAOF NO ONE") // the cleanup deletes keys, which a replica refuses
}

// TestLook_TrustsNoEntryAfterRollback revokes a session and then starts a Redis from a snapshot
// file that was saved before the revocation. The revoked session must not become active again.
func TestLook_TrustsNoEntryAfterRollback(t *testing.T) {
	t.Parallel()
	until := time.Now().Add(time.Hour)
	for name, revocation := range map[string]issuer.Revocation{
		"session revoked":      {Subject: "ada", SessionID: "s1", Until: until},
		"token revoked":        {Subject: "ada", SessionID: "s1", TokenID: "t1", Until: until},
		"all sessions revoked": {Subject: "ada", Generation: 2, Until: until},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			before := newTestStore(t, redisstoretest.StartServer(t, "--dir", dir))
			before.backfill(t, active(1, until))
			before.command(t, "SAVE")
			before.apply(t, revocation)
			after := newTestStore(t, redisstoretest.StartServer(t, "--dir", dir))
			after.Store = redisstoretest.Open(t, "redis://"+after.client.(*redis.Client).Options().Addr, redisstore.Options{Prefix: before.prefix})
			if n := after.client.Exists(t.Context(), before.prefix+"s:{ada}:s1").Val(); n != 1 {
				t.Fatal("the server did not restore the entry")
			}
			after.wantUnknown(t)
			after.backfill(t, active(2, until))
			after.wantActive(t)
		})
	}
}

// TestBackfill_RefusesLeaseOfAnotherServer takes a lease before a failover and uses the lease
// after the failover. Backfill must refuse it, because the new master may lack the revocation that
// ended the lease.
func TestBackfill_RefusesLeaseOfAnotherServer(t *testing.T) {
	t.Parallel()
	masterURL := redisstoretest.StartServer(t, "--repl-diskless-sync-delay", "0")
	master, replica := newTestStore(t, masterURL), newTestStore(t, redisstoretest.StartServer(t))
	replica.Store = redisstoretest.Open(t, "redis://"+replica.client.(*redis.Client).Options().Addr, redisstore.Options{Prefix: master.prefix})
	replica.command(t, "REPLICAOF "+strings.NewReplacer("redis://", "", ":", " ").Replace(masterURL))
	eventually(t, "the replica is linked", func() bool {
		return strings.Contains(replica.client.Info(t.Context(), "replication").Val(), "master_link_status:up")
	})
	redisstoretest.Trust(t, master.Store)
	lease, ok, err := master.Lease(t.Context(), master.ref)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	eventually(t, "the replica has the lease", func() bool {
		return replica.client.Exists(t.Context(), master.prefix+"l:{ada}").Val() == 1
	})
	replica.command(t, "REPLICAOF NO ONE")
	if done, err := replica.Backfill(t.Context(), lease, replica.ref, active(1, time.Now().Add(time.Hour))); err != nil || done {
		t.Errorf("Backfill on the new master = %t, %v, want false", done, err)
	}
	if done, err := master.Backfill(t.Context(), lease, master.ref, active(1, time.Now().Add(time.Hour))); err != nil || !done {
		t.Errorf("Backfill where the lease was taken = %t, %v", done, err)
	}
}

// TestLook_FailsOnMasterWithTooFewReplicas checks that a lookup fails on a master that has
// fewer replicas than its setting min-replicas-to-write, because a failover may have replaced such
// a master.
func TestLook_FailsOnMasterWithTooFewReplicas(t *testing.T) {
	t.Parallel()
	v := newTestStore(t, redisstoretest.StartServer(t))
	v.backfill(t, active(1, time.Now().Add(time.Hour)))
	v.command(t, "CONFIG SET min-replicas-to-write 1")
	v.wantRefused(t, "NOREPLICAS")
	v.command(t, "CONFIG SET min-replicas-to-write 0")
	v.wantActive(t)
}

// TestApply_RevokesSessionWhileRedisHasNoFreeMemory checks that a Redis without free memory still
// answers lookups and accepts every kind of revocation.
func TestApply_RevokesSessionWhileRedisHasNoFreeMemory(t *testing.T) {
	t.Parallel()
	v := newTestStore(t, redisstoretest.StartServer(t))
	until := time.Now().Add(time.Hour)
	v.backfill(t, active(1, until))
	v.command(t, "CONFIG SET maxmemory 1")
	v.wantActive(t)
	if _, _, err := v.Lease(t.Context(), v.ref); !errors.Is(err, session.ErrUnavailable) || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("Lease = %v, want an out-of-memory error", err)
	}
	for range 2 {
		// After SCRIPT FLUSH the server has to receive each script again, which also needs memory.
		v.command(t, "SCRIPT FLUSH")
		for range 2 {
			v.apply(t, issuer.Revocation{Subject: "ada", SessionID: "s1", TokenID: "t1", Until: until})
			v.apply(t, issuer.Revocation{Subject: "ada", SessionID: "s1", Until: until})
			v.apply(t, issuer.Revocation{Subject: "ada", Generation: 7, Keep: "s2", Until: until})
		}
	}
	got, err := v.Look(t.Context(), v.ref)
	if err != nil || !got.Entry.Ended || got.Generation != 7 || !got.TokenRevoked {
		t.Errorf("Look = %+v, %v, want an ended session, generation 7 and a revoked token", got, err)
	}
}

// These are the ACL permissions that doc.go documents.
const (
	leastACL        = "+@connection -@dangerous +info +get +mget +getex +exists +set +del +pexpiretime +eval +evalsha"
	checkACL        = "+@connection -@dangerous +info +get +mget +getex"
	leastClusterACL = "+cluster|slots +asking"
	inspectACL      = "+time +config|get"
)

// TestStore_WorksWithDocumentedPermissions connects to Redis as each of the ACL users that
// doc.go documents.
func TestStore_WorksWithDocumentedPermissions(t *testing.T) {
	t.Parallel()
	redisURL := redisstoretest.StartServer(t)
	admin := redisstoretest.Client(t, redisURL)
	for _, user := range []string{
		"ada on >secret ~app:* " + leastACL,
		"joan on >secret %R~app:s:* %R~app:b:* ~app:g:* " + checkACL,
		"grace on >secret ~app:* " + leastACL + " " + inspectACL,
		"alan on >secret ~app:* " + leastACL + " " + inspectACL + " -info",
	} {
		if err := admin.Do(t.Context(), words("ACL SETUSER "+user)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	as := func(t *testing.T, user, prefix string) *redisstore.Store {
		t.Helper()
		return redisstoretest.Open(t, strings.Replace(redisURL, "redis://", "redis://"+user+":secret@", 1), redisstore.Options{Prefix: prefix})
	}
	t.Run("passes the contract tests of a store", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) issuer.Store { return as(t, "ada", "app:") })
	})
	t.Run("user that may only check tokens cannot revoke", func(t *testing.T) {
		if v, err := as(t, "joan", "app:").Look(t.Context(), session.Ref{Subject: "nobody"}); err != nil || v.HasEntry || v.HasGeneration || v.TokenRevoked {
			t.Errorf("Look = %+v, %v", v, err)
		}
		if _, err := as(t, "joan", "app:").Apply(t.Context(), issuer.Revocation{Subject: "nobody", SessionID: "s", Until: time.Now().Add(time.Hour)}); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("Apply = %v, want ErrUnavailable", err)
		}
		for _, forbidden := range []string{
			"CLIENT PAUSE 1", "CLIENT KILL TYPE normal", "CLIENT LIST", "GETEX app:s:{a}:s PX 1", "GETEX app:r:{limits}:x PX 1", "DEL app:g:{a}",
		} {
			client := redisstoretest.Client(t, strings.Replace(redisURL, "redis://", "redis://joan:secret@", 1))
			if err := client.Do(t.Context(), words(forbidden)...).Err(); !redis.HasErrorPrefix(err, "NOPERM ") {
				t.Errorf("%s = %v, want NOPERM", forbidden, err)
			}
		}
	})
	t.Run("lookups fail for a user without permission for INFO", func(t *testing.T) {
		store := as(t, "alan", "app:")
		v := &testStore{Store: store, ref: session.Ref{Subject: "alan", SessionID: "s1", TokenID: "t1"}}
		v.wantRefused(t, "NOPERM")
		if _, ok, err := v.Lease(t.Context(), v.ref); ok {
			t.Errorf("Lease = %t, %v, want none", ok, err)
		}
		v.Store = as(t, "ada", "app:")
		v.wantUnknown(t)
		if report, err := store.Inspect(t.Context()); err != nil || report.Nodes[0].Named {
			t.Errorf("Inspect = %+v, %v", report, err)
		}
	})
	t.Run("lookups fail for a key prefix that the user may not read", func(t *testing.T) {
		if _, err := as(t, "ada", "other:").Look(t.Context(), session.Ref{Subject: "a"}); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("Look = %v", err)
		}
	})
	t.Run("Ping fails with a wrong password and does not quote it", func(t *testing.T) {
		store := redisstoretest.Open(t, strings.Replace(redisURL, "redis://", "redis://ada:hunter2@", 1), redisstore.Options{})
		if err := store.Ping(t.Context()); !errors.Is(err, session.ErrUnavailable) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Ping = %v", err)
		}
	})
	t.Run("Inspect leaves fields empty that the user may not read", func(t *testing.T) {
		report, err := as(t, "ada", "app:").Inspect(t.Context())
		if err != nil || len(report.Nodes) != 1 || report.Nodes[0].Persistence != "" || report.Nodes[0].MinReplicasToWrite != "" || report.Nodes[0].Skew != nil {
			t.Errorf("Inspect = %+v, %v", report, err)
		}
	})
	t.Run("Inspect fills every field for a user with permission for CONFIG and TIME", func(t *testing.T) {
		report, err := as(t, "grace", "app:").Inspect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantInspected(t, report)
	})
}

// wantInspected checks every field of an Inspect report about servers with the default settings.
func wantInspected(t *testing.T, report redisstore.Report) {
	t.Helper()
	for _, n := range report.Nodes {
		if n.Addr == "" || n.TooOld() || n.Role != "master" || !n.Named || n.Persistence != "none" ||
			n.MaxMemoryPolicy != "noeviction" || n.StopWritesOnSaveError != "yes" || n.MinReplicasToWrite != "0" ||
			n.MinReplicasMaxLag != "10" || n.Replicas != "0" {
			t.Errorf("Inspect reports %+v, want a master with the default settings", n)
		}
		if n.Skew == nil || n.Skew.Abs() > time.Second {
			t.Errorf("the clock of %s is %v ahead, want at most a second", n.Addr, n.Skew)
		}
	}
}

func TestInspect_ReportsSettingsOfEveryServer(t *testing.T) {
	t.Parallel()
	report, err := redisstoretest.Open(t, redisstoretest.StartServer(t), redisstore.Options{}).Inspect(t.Context())
	if err != nil || report.Cluster || len(report.Nodes) != 1 {
		t.Fatalf("Inspect = %+v, %v", report, err)
	}
	wantInspected(t, report)

	report, err = redisstoretest.NewCluster(t).Inspect(t.Context())
	if err != nil || !report.Cluster || len(report.Nodes) < 3 {
		t.Fatalf("Inspect = %+v, %v", report, err)
	}
	for _, n := range report.Nodes {
		if n.Version == "" || n.Role != "master" || n.Skew == nil {
			t.Errorf("Inspect reports %+v, want a master with its version and clock", n)
		}
	}

	// The embedded Redis does not support the commands that read settings.
	report, err = redisstoretest.New(t).Inspect(t.Context())
	if err != nil || len(report.Nodes) != 1 || report.Nodes[0].MaxMemoryPolicy != "" || report.Nodes[0].TooOld() || report.Nodes[0].Skew == nil {
		t.Errorf("Inspect = %+v, %v, want one node without settings", report, err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := redisstoretest.New(t).Inspect(ctx); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("Inspect with a canceled context = %v, want ErrUnavailable", err)
	}
	for version, old := range map[string]bool{"": false, "6.2.14": true, "7.0.0": false, "8.4": false, "255.255.255": false, "x": false} {
		if got := (redisstore.Node{Version: version}).TooOld(); got != old {
			t.Errorf("TooOld of version %q = %t", version, got)
		}
	}
}

func TestStore_PassesContractTestsThroughSentinel(t *testing.T) {
	t.Parallel()
	sentinelURL := redisstoretest.StartSentinel(t, redisstoretest.StartServer(t))
	storetest.Run(t, func(t *testing.T) issuer.Store {
		return redisstoretest.Open(t, sentinelURL, redisstore.Options{})
	})
}

func TestStore_ReconnectsAfterClosedConnections(t *testing.T) {
	t.Parallel()
	v := newTestStore(t, redisstoretest.StartServer(t))
	v.backfill(t, active(1, time.Now().Add(time.Hour)))
	for range 3 {
		v.command(t, "CLIENT KILL TYPE normal SKIPME yes")
		eventually(t, "the store reconnects", func() bool {
			_, err := v.Look(t.Context(), v.ref)
			return err == nil
		})
		v.wantActive(t)
	}
}
