package faultsuite

import (
	"database/sql"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// topology is how Redis is set up.
type topology int

const (
	single   topology = iota
	sentinel          // a master, two replicas and three Sentinels
	cluster           // three masters with a replica each
	upgrade           // a single Redis; the tables and the replicas begin as the version before
)

func (k topology) String() string {
	return [...]string{"single Redis", "Sentinel", "Cluster", "single Redis, with the version before"}[k]
}

// endpoint is where clients send requests.
type endpoint interface {
	base() string
	name() string
}

// rig is everything that runs: the stores, three replicas of sessiond and HAProxy.
type rig struct {
	t         testing.TB
	dir       string
	topology  topology
	postgres  *postgres
	database  string
	db        *sql.DB
	nodes     []*node
	sentinels []*node
	replicas  []*replica
	balancer  *balancer
	env       map[string]string // settings that all replicas share
}

// replica is one process of `sessiond serve`.
type replica struct {
	rig      *rig
	i        int
	port     int
	metrics  int
	postgres *link
	redis    map[*node]*link // a link to each server and each Sentinel
	env      map[string]string
	program  string
	proc     *process
}

func (r *replica) base() string { return "http://" + local(r.port) }
func (r *replica) name() string { return fmt.Sprint("r", r.i) }

// balancer is HAProxy in front of the replicas.
type balancer struct {
	port int
	proc *process
}

func (b *balancer) base() string { return "http://" + local(b.port) }
func (b *balancer) name() string { return "lb" }

// startRig starts everything. The servers stop at the end of t.
func startRig(t testing.TB, dir string, pg *postgres, k topology) *rig {
	t.Helper()
	r := &rig{t: t, topology: k, postgres: pg, database: newName()}
	r.dir = filepath.Join(dir, r.database)
	if err := os.MkdirAll(r.dir, 0o711); err != nil {
		t.Fatal(err)
	}
	pg.exec("CREATE DATABASE " + r.database)
	r.db = pg.database(t, r.database)
	keys := filepath.Join(r.dir, "keys.json")
	output(t, nil, program(t), "keys", "new", "--out", keys, "--alg", "EdDSA")
	r.env = map[string]string{
		"SIGNING_KEYS_FILE": keys, "ISSUER": "https://id.example", "PUBLIC_URL": "https://id.example",
		"LIMITS": "off", "MAX_SESSIONS": "0", "REAUTH_MAX_AGE": "0", "LOG_LEVEL": "warn", "DATABASE_URL": pg.url(r.database, pg.port),
	}
	first := program(t)
	if k == upgrade {
		first = programBefore(t)
		r.env["SHUTDOWN_DELAY"], r.env["LOG_LEVEL"] = shutdownDelay, "info" // a line for each request but accepted checks
	}
	output(t, settings(r.env), first, "migrate")
	r.startStores()
	for i := range 3 {
		r.replicas = append(r.replicas, r.newReplica(i, first))
	}
	r.startBalancer()
	for _, replica := range r.replicas {
		replica.start()
	}
	for _, replica := range r.replicas {
		replica.await()
	}
	return r
}

func settings(env map[string]string) (list []string) {
	list = append(list, "PATH="+os.Getenv("PATH"))
	for name, value := range env {
		list = append(list, "SESSIOND_"+name+"="+value)
	}
	return list
}

// startStores starts the Redis servers.
func (r *rig) startStores() {
	r.t.Helper()
	switch r.topology {
	case single, upgrade:
		r.addNode("redis")
	case sentinel:
		r.startSentinels()
	case cluster:
		r.startCluster()
	}
}

// addNode starts a Redis server on its own. Each replica of sessiond is a user of its own there, so
// that a fault can forbid one of them something.
func (r *rig) addNode(name string, args ...string) *node {
	r.t.Helper()
	for i := range 3 {
		args = append(args, "--user", fmt.Sprint("r", i), "on", ">secret", "~*", "&*", "+@all")
	}
	n := newNode(r.t, r.dir, name, args...)
	n.start()
	n.await()
	r.nodes = append(r.nodes, n)
	for _, replica := range r.replicas {
		replica.redis[n] = startLink(r.t, local(n.port))
	}
	return n
}

func (r *rig) newReplica(i int, program string) *replica {
	replica := &replica{rig: r, i: i, port: freePort(r.t), metrics: freePort(r.t), redis: map[*node]*link{}, env: maps.Clone(r.env), program: program}
	replica.postgres = startLink(r.t, local(r.postgres.port))
	all := append(append([]*node{}, r.nodes...), r.sentinels...)
	for _, n := range all {
		replica.redis[n] = startLink(r.t, local(n.port))
	}
	for _, from := range all {
		for _, to := range all {
			replica.redis[from].translate(to.announced(), replica.redis[to].port)
		}
	}
	maps.Copy(replica.env, map[string]string{
		"ADDR": local(replica.port), "METRICS_ADDR": local(replica.metrics),
		"DATABASE_URL": r.postgres.url(r.database, replica.postgres.port), "REDIS_URL": replica.redisURL(),
	})
	return replica
}

// redisURL is the URL at which the replica finds Redis, through its own links.
func (r *replica) redisURL() string {
	var addrs []string
	switch r.rig.topology {
	case sentinel:
		for _, n := range r.rig.sentinels {
			addrs = append(addrs, r.redis[n].addr())
		}
		return redisURL("redis+sentinel", addrs, "master=main")
	case cluster:
		for _, n := range r.rig.nodes {
			addrs = append(addrs, r.redis[n].addr())
		}
		return redisURL("redis+cluster", addrs, "")
	default:
		return r.singleURL(r.rig.nodes[0])
	}
}

// singleURL is the URL of one Redis server, through the replica's own link.
func (r *replica) singleURL(n *node) string {
	return fmt.Sprintf("redis://r%d:secret@%s", r.i, r.redis[n].addr())
}

func (r *replica) start() {
	r.proc = spawn(r.rig.t, r.rig.dir, fmt.Sprint("replica-", r.i), false, settings(r.env), r.program, "serve")
}

// await waits until the replica serves.
func (r *replica) await() {
	r.rig.t.Helper()
	r.proc.awaitUp(r.rig.t, func() bool { return r.get("/livez") == http.StatusOK })
}

// get returns the status of a GET without a token, or 0.
func (r *replica) get(path string) int {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(r.base() + path)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// restart stops the replica in order and starts it again, with changed settings.
func (r *replica) restart(changes map[string]string) {
	r.rig.t.Helper()
	r.proc.stop(syscall.SIGTERM)
	maps.Copy(r.env, changes)
	r.start()
}

// startBalancer starts HAProxy with the documented file, except for the addresses.
func (r *rig) startBalancer() {
	r.t.Helper()
	haproxy := find(r.t, "haproxy")
	b := &balancer{port: freePort(r.t)}
	documented, err := os.ReadFile("../../../deploy/gateways/haproxy-replicas.cfg")
	if err != nil {
		r.t.Fatal(err)
	}
	config := string(documented)
	change := func(from, to string) {
		if strings.Count(config, from) != 1 {
			r.t.Fatalf("haproxy-replicas.cfg does not have %q once", from)
		}
		config = strings.Replace(config, from, to, 1)
	}
	change("bind :8000", "bind "+local(b.port))
	for i, replica := range r.replicas {
		change(fmt.Sprintf("server sessiond%d %s\n", i+1, local(8081+i)), fmt.Sprintf("server %s %s\n", replica.name(), local(replica.port)))
	}
	if os.Getuid() != 0 { // only root can switch to another user
		change("user haproxy\n", "")
		change("group haproxy\n", "")
	}
	path := filepath.Join(r.dir, "haproxy.cfg")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		r.t.Fatal(err)
	}
	b.proc = spawn(r.t, r.dir, "haproxy", false, nil, haproxy, "-db", "-f", path)
	b.proc.awaitUp(r.t, func() bool { return listens(local(b.port)) })
	r.balancer = b
}

// stop kills everything but Postgres.
func (r *rig) stop() {
	if r == nil {
		return
	}
	for _, replica := range r.replicas {
		replica.proc.kill()
	}
	for _, n := range append(append([]*node{}, r.nodes...), r.sentinels...) {
		n.proc.kill()
	}
}

// links applies f to the links of every replica to a Redis server.
func (r *rig) links(n *node, f func(*link)) {
	for _, replica := range r.replicas {
		f(replica.redis[n])
	}
}

// all runs f for the three replicas at once. It fails the test if f does so for any of them.
func (r *rig) all(f func(*replica)) {
	r.t.Helper()
	var wg sync.WaitGroup
	for _, replica := range r.replicas {
		wg.Go(func() { f(replica) })
	}
	wg.Wait()
	if r.t.Failed() { // FailNow in f ended only the goroutine of f
		r.t.FailNow()
	}
}

// complaints returns the warnings and errors that the replicas logged, for a failed test.
func (r *rig) complaints() string {
	var b strings.Builder
	for _, replica := range r.replicas {
		fmt.Fprintf(&b, "-- end of the log of %s\n%s\n", replica.name(), replica.proc.tail())
	}
	return b.String()
}

// goroutines returns the number of goroutines in all replicas, by their metrics.
func (r *rig) goroutines() (sum int) {
	for _, replica := range r.replicas {
		resp, err := http.Get("http://" + local(replica.metrics) + "/metrics")
		if err != nil {
			continue
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		for line := range strings.Lines(string(text)) {
			var n int
			if _, err := fmt.Sscanf(line, "go_goroutines %d", &n); err == nil {
				sum += n
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()
	return sum
}
