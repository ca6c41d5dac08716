package faultsuite

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// stopsAfter is the latest moment at which a master that was cut off refuses writes. It is not
	// min-replicas-max-lag + 1 s, because Redis counts whole seconds and looks once a second.
	stopsAfter = maxLag*time.Second + 2*time.Second
	maxLag     = 2 // the servers' min-replicas-max-lag

	// downAfter is how long in ms a Sentinel waits before it considers a master down. It is below
	// stopsAfter, so that two masters may take writes at the same time.
	downAfter = 3500
)

// startSentinels starts a master, two replicas of it and three Sentinels. The servers reach each
// other through their public links, so that a fault can isolate one of them.
func (r *rig) startSentinels() {
	r.t.Helper()
	for i := range 3 {
		n := newNode(r.t, r.dir, fmt.Sprint("redis-", i), "--min-replicas-to-write", "1", "--min-replicas-max-lag", fmt.Sprint(maxLag),
			"--repl-ping-replica-period", "1", "--repl-diskless-load", "swapdb")
		n.public = startLink(r.t, local(n.port))
		n.args = append(n.args, "--replica-announce-ip", "127.0.0.1", "--replica-announce-port", fmt.Sprint(n.public.port))
		r.nodes = append(r.nodes, n)
	}
	for i, n := range r.nodes {
		master := n.args
		if i > 0 {
			n.args = append(n.args[:len(n.args):len(n.args)], "--replicaof", "127.0.0.1", fmt.Sprint(r.nodes[0].public.port))
		}
		n.start()
		n.args = master // a later start begins as a master, until a Sentinel says otherwise
	}
	for _, n := range r.nodes {
		n.await()
	}
	await(r.t, "both replicas are in sync", func() bool { return r.inSync(r.nodes[0], 2) })
	for i := range 3 {
		n := newNode(r.t, r.dir, fmt.Sprint("sentinel-", i))
		config := filepath.Join(n.dir, "sentinel.conf")
		text := fmt.Sprintf("bind 127.0.0.1\nport %d\ndir %s\nsentinel monitor main 127.0.0.1 %d 2\nsentinel down-after-milliseconds main %d\nsentinel failover-timeout main 10000\n",
			n.port, n.dir, r.nodes[0].public.port, downAfter)
		writeForServer(r.t, config, []byte(text))
		n.proc = spawn(r.t, n.dir, n.name, true, nil, redisServer(r.t), config, "--sentinel")
		r.sentinels = append(r.sentinels, n)
	}
	for _, n := range r.sentinels {
		n.await()
	}
	r.awaitSentinels()
}

// inSync reports whether a master has this many replicas that follow it closely.
func (r *rig) inSync(master *node, replicas int) bool {
	online := 0
	for i := range replicas {
		if strings.Contains(master.info(fmt.Sprint("slave", i)), "state=online") {
			online++
		}
	}
	return online == replicas
}

// awaitSentinels waits until every Sentinel knows the other two and both replicas, and agrees that
// the master is up.
func (r *rig) awaitSentinels() {
	r.t.Helper()
	await(r.t, "the Sentinels know each other and both replicas", func() bool {
		master := r.master()
		if master == nil || !r.inSync(master, 2) {
			return false
		}
		for _, s := range r.sentinels {
			fields := sentinelFields(s)
			if fields["num-other-sentinels"] != "2" || fields["num-slaves"] != "2" || fields["flags"] != "master" ||
				fields["port"] != fmt.Sprint(master.public.port) {
				return false
			}
		}
		return true
	})
}

func sentinelFields(s *node) map[string]string {
	fields := map[string]string{}
	v, _ := s.try("SENTINEL MASTER main")
	list, _ := v.([]any)
	for i := 0; i+1 < len(list); i += 2 {
		fields[fmt.Sprint(list[i])] = fmt.Sprint(list[i+1])
	}
	return fields
}

// master returns the server that most Sentinels take for the master, or nil.
func (r *rig) master() *node {
	votes := map[string]int{}
	for _, s := range r.sentinels {
		votes[sentinelFields(s)["port"]]++
	}
	for _, n := range r.nodes {
		if votes[strconv.Itoa(n.public.port)] >= 2 && n.info("role") == "master" {
			return n
		}
	}
	return nil
}

// startCluster starts three masters with a replica each.
func (r *rig) startCluster() {
	r.t.Helper()
	var addrs []string
	for i := range 6 {
		n := newNode(r.t, r.dir, fmt.Sprint("node-", i), "--cluster-enabled", "yes", "--cluster-node-timeout", "2000", "--repl-ping-replica-period", "1")
		n.start()
		r.nodes = append(r.nodes, n)
		addrs = append(addrs, local(n.port))
	}
	for _, n := range r.nodes {
		n.await()
	}
	create := append(append([]string{"--cluster", "create"}, addrs...), "--cluster-replicas", "1", "--cluster-yes")
	output(r.t, nil, redisCLI(r.t), create...)
	r.awaitCluster()
}

// awaitCluster waits until every node finds the Cluster complete and every master has a replica.
func (r *rig) awaitCluster() {
	r.t.Helper()
	await(r.t, "the Cluster is complete", func() bool {
		replicas := 0
		for _, n := range r.nodes {
			info, err := n.try("CLUSTER INFO")
			if err != nil || !strings.Contains(fmt.Sprint(info), "cluster_state:ok") {
				return false
			}
			if n.info("role") == "slave" && n.info("master_link_status") == "up" {
				replicas++
			}
		}
		return replicas == 3
	})
}
