package stage

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/cmd/sessionbench/must"
)

// Cluster is a Redis Cluster of masters without replicas, whose data is in memory only.
type Cluster struct {
	URL   string
	Nodes []*redis.Client
}

// StartCluster starts a Cluster with one master in each of the groups, of the program redis-server. It
// stops when the current Scope ends.
func (s *Stage) StartCluster(ctx context.Context, program string, groups []*Group) *Cluster {
	const slots = 16384
	c, password := &Cluster{}, rand.Text() // without a password, any user of this machine could make Redis write files
	var addrs, buses []string
	for i, g := range groups {
		addr, bus := s.startRedis(ctx, program, password, g)
		node := redis.NewClient(&redis.Options{Addr: addr, Password: password})
		s.Later(node.Close)
		c.Nodes, addrs, buses = append(c.Nodes, node), append(addrs, addr), append(buses, bus)
		wait(ctx, addr+" answers", func() bool { return node.Ping(ctx).Err() == nil })
		must.Do(node.ClusterAddSlotsRange(ctx, i*slots/len(groups), (i+1)*slots/len(groups)-1).Err())
		// Nodes with one number would have to settle first whose slots count.
		must.Do(node.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err())
	}
	for i, addr := range addrs {
		host, port, _ := net.SplitHostPort(addr)
		if i > 0 {
			must.Do(c.Nodes[0].Do(ctx, "CLUSTER", "MEET", host, port, buses[i]).Err())
		}
	}
	for _, node := range c.Nodes {
		wait(ctx, "the Redis Cluster is complete", func() bool {
			info := node.ClusterInfo(ctx).Val()
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_size:%d\r", len(c.Nodes)))
		})
	}
	c.URL = "redis+cluster://:" + password + "@" + strings.Join(addrs, ",")
	return c
}

// startRedis starts one server and returns its address and the port for other nodes. The password is in the standard input, because
// other users can read arguments.
func (s *Stage) startRedis(ctx context.Context, program, password string, g *Group) (addr, bus string) {
	addr = freeAddr()
	host, port, _ := net.SplitHostPort(addr)
	_, bus, _ = net.SplitHostPort(freeAddr())
	dir := must.Get(os.MkdirTemp(s.dir, "redis-"))
	config := fmt.Sprintf("bind %s\nport %s\ncluster-port %s\nrequirepass %s\ndir %s\nsave \"\"\nappendonly no\ncluster-enabled yes\n", host, port, bus, password, dir)
	ctx, stop := context.WithCancel(ctx)
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, g.Wrap[0], append(append([]string{}, g.Wrap[1:]...), program, "-")...) //nolint:gosec // G204: redis-server
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	cmd.Stdin, cmd.Stdout, cmd.Dir = strings.NewReader(config), &said, filepath.Clean(dir)
	must.Do(cmd.Start())
	s.Later(func() error {
		stop()
		if err, failed := errors.AsType[*exec.ExitError](cmd.Wait()); failed && err.ExitCode() > 0 {
			return fmt.Errorf("%s: %w\n%s", program, err, said.String())
		}
		return nil
	})
	return addr, bus
}

// wait ends the run if done does not return true within 15 s.
func wait(ctx context.Context, what string, done func() bool) {
	for begin := time.Now(); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > 15*time.Second || ctx.Err() != nil {
			must.Do(fmt.Errorf("waited 15 s in vain until %s", what))
		}
	}
}
