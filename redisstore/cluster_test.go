package redisstore_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// startCluster starts a Redis Cluster of two masters with half of the slots each. A test may move
// slots between them, because no other test uses this Cluster.
func startCluster(t *testing.T) (clusterURL string, nodes [2]*redis.Client) {
	t.Helper()
	for i := range nodes {
		nodes[i] = redisstoretest.Client(t, redisstoretest.StartServer(t, "--cluster-enabled", "yes")).(*redis.Client)
	}
	return "redis+cluster://" + joinCluster(t, nodes), nodes
}

// joinCluster makes a Cluster of two servers, and returns their addresses.
func joinCluster(t *testing.T, nodes [2]*redis.Client) (addrs string) {
	t.Helper()
	for i, slots := range [2][2]int{{0, 8191}, {8192, 16383}} {
		run(t, nodes[i], "CLUSTER", "ADDSLOTSRANGE", slots[0], slots[1])
	}
	host, port, _ := strings.Cut(nodes[1].Options().Addr, ":")
	run(t, nodes[0], "CLUSTER", "MEET", host, port)
	for _, node := range nodes {
		eventually(t, "the nodes have met", func() bool {
			info := node.ClusterInfo(t.Context()).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:2")
		})
	}
	return nodes[0].Options().Addr + "," + nodes[1].Options().Addr
}

func run(t *testing.T, node *redis.Client, args ...any) string {
	t.Helper()
	answer, err := node.Do(t.Context(), args...).Result()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return fmt.Sprint(answer)
}

// TestServers_SupersedesNoMasterThatIsStillUsed resets a replica and gives it slots of its own. It
// remembers the master that it followed, which goes on.
func TestServers_SupersedesNoMasterThatIsStillUsed(t *testing.T) {
	t.Parallel()
	var nodes [2]*redis.Client
	for i := range nodes {
		redisURL := redisstoretest.StartServer(t, "--cluster-enabled", "yes", "--repl-diskless-sync-delay", "0")
		nodes[i] = redisstoretest.Client(t, redisURL).(*redis.Client)
	}
	master, other := nodes[0], nodes[1]
	host, port, _ := strings.Cut(master.Options().Addr, ":")
	run(t, master, "CLUSTER", "ADDSLOTSRANGE", 0, 8191)
	run(t, other, "CLUSTER", "MEET", host, port)
	masterID := run(t, master, "CLUSTER", "MYID")
	eventually(t, "the nodes have met", func() bool {
		return other.Do(t.Context(), "CLUSTER", "REPLICATE", masterID).Err() == nil
	})
	eventually(t, "the replica is linked", func() bool {
		return strings.Contains(other.Info(t.Context(), "replication").Val(), "master_link_status:up")
	})
	run(t, other, "CLUSTER", "RESET")
	run(t, other, "CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
	run(t, other, "CLUSTER", "MEET", host, port)
	for _, node := range nodes {
		eventually(t, "the nodes have met again, as masters", func() bool {
			return strings.Contains(node.ClusterInfo(t.Context()).Val(), "cluster_state:ok") &&
				strings.Contains(node.Info(t.Context(), "replication").Val(), "role:master")
		})
	}
	field := func(node *redis.Client, name string) string {
		_, value, _ := strings.Cut(node.Info(t.Context(), "replication").Val(), name+":")
		value, _, _ = strings.Cut(value, "\r\n")
		return value
	}
	if former, replid := field(other, "master_replid2"), field(master, "master_replid"); former != replid {
		t.Fatalf("the reset node remembers the master %s, want %s", former, replid)
	}
	servers, err := redisstoretest.Open(t, "redis+cluster://"+master.Options().Addr, redisstore.Options{}).Servers(t.Context())
	if err != nil || len(servers) != 2 {
		t.Fatalf("Servers = %+v, %v", servers, err)
	}
	for i, s := range servers {
		if s.Supersedes == "" || s.Supersedes == servers[1-i].ID {
			t.Errorf("%+v supersedes another master of the Cluster, or all of them", s)
		}
	}
}

// TestApply_WorksDuringSlotMove revokes sessions whose slot moves, key by key, to another node of a
// Cluster. Lookups report an unknown session meanwhile, and never an ended one.
func TestApply_WorksDuringSlotMove(t *testing.T) {
	t.Parallel()
	clusterURL, nodes := startCluster(t)
	for _, node := range nodes {
		run(t, node, words("ACL SETUSER ada on >secret ~* "+leastACL+" "+leastClusterACL)...)
		run(t, node, words("ACL SETUSER grace on >secret %R~s:* %R~b:* ~g:* "+checkACL+" "+leastClusterACL)...)
	}
	v := &testStore{
		Store:  redisstoretest.Open(t, strings.Replace(clusterURL, "://", "://ada:secret@", 1), redisstore.Options{}),
		client: redisstoretest.Client(t, clusterURL),
		ref:    session.Ref{Subject: "ada", SessionID: "s1", TokenID: "t1"},
	}
	until := time.Now().Add(time.Hour)
	v.backfill(t, active(1, until))
	checks := *v // a second Store, whose Redis user may only read
	checks.Store = redisstoretest.Open(t, strings.Replace(clusterURL, "://", "://grace:secret@", 1), redisstore.Options{})
	slot := v.client.ClusterKeySlot(t.Context(), "g:{ada}").Val()
	from, to := nodes[0], nodes[1]
	if slot > 8191 {
		from, to = to, from
	}
	fromID, toID := run(t, from, "CLUSTER", "MYID"), run(t, to, "CLUSTER", "MYID")
	host, port, _ := strings.Cut(to.Options().Addr, ":")
	move := func(key string) { run(t, from, "MIGRATE", host, port, key, 0, 5000) }

	run(t, to, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	run(t, from, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	v.wantUnknown(t) // the key of a revoked token does not exist, so Redis refuses MGET
	move("g:{ada}")
	v.wantUnknown(t)
	checks.wantUnknown(t)
	revocation := issuer.Revocation{Subject: "ada", Generation: 2, Keep: "s9", Until: until}
	v.apply(t, revocation)
	if got, err := v.client.Get(t.Context(), "g:{ada}").Result(); err != nil || got != "2" {
		t.Errorf("after a revocation of all on two nodes, the generation is %q, %v", got, err)
	}
	for _, one := range []issuer.Revocation{
		{Subject: "ada", SessionID: "s2", Until: until}, {Subject: "ada", SessionID: "s3", TokenID: "t3", Until: until},
	} {
		servers, err := v.Apply(t.Context(), one)
		if err != nil || len(servers) == 0 {
			t.Errorf("Apply to keys on two nodes = %q, %v", servers, err)
		}
	}
	revokedSession, revokedToken := *v, *v
	revokedSession.ref.SessionID, revokedToken.ref.TokenID = "s2", "t3"
	revokedToken.wantUnknown(t)
	move("s:{ada}:s1")
	v.wantUnknown(t) // all keys of the session have moved
	checks.wantUnknown(t)
	for _, node := range []*redis.Client{to, from} {
		run(t, node, "CLUSTER", "SETSLOT", slot, "NODE", toID)
	}
	v.wantUnknown(t)
	eventually(t, "the session that was revoked during the move is ended", func() bool {
		got, err := revokedSession.Look(t.Context(), revokedSession.ref)
		return err == nil && got.Entry.Ended
	})
	if got, err := revokedToken.Look(t.Context(), revokedToken.ref); err != nil || !got.TokenRevoked {
		t.Errorf("after the move, Look at a token that was revoked during it = %+v, %v", got, err)
	}
	v.backfill(t, active(2, until))
	for _, v := range []*testStore{v, &checks} {
		eventually(t, "checks ask the new node", func() bool {
			got, err := v.Look(t.Context(), v.ref)
			return err == nil && got.HasEntry
		})
		v.wantActive(t)
	}
	v.apply(t, issuer.Revocation{Subject: "ada", SessionID: "s1", Until: until})
	if got, err := v.Look(t.Context(), v.ref); err != nil || !got.Entry.Ended {
		t.Errorf("Look at an ended session after the move = %+v, %v", got, err)
	}
}
