package redisstore

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// A server is named by its master_replid and by the place of the keys on it. Redis changes the
// master_replid after every event that can have returned the data to an earlier state: a restart
// from a saved file, a failover to a replica that was behind, a copy of another server's data.

// masterReplid reads the master_replid from a reply to INFO replication. It returns "" if the server
// is not a master.
func masterReplid(info string) string {
	if infoField(info, "role") != "master" {
		return ""
	}
	return infoField(info, "master_replid")
}

// infoField returns the value of a field in a reply to INFO, or "" if the field is missing.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name); ok && strings.HasPrefix(value, ":") {
			return strings.TrimSpace(value[1:])
		}
	}
	return ""
}

// epochOn returns the number of the current epoch on the server with this master_replid, or 0.
func (s *Store) epochOn(replid string, current []session.Epoch) int64 {
	for i := range current {
		if place, ok := strings.CutPrefix(current[i].Server, replid); ok && place == s.place {
			return current[i].Number
		}
	}
	return 0
}

// Epochs implements [issuer.Store].
func (s *Store) Epochs() *session.Epochs { return s.epochs }

// Servers implements [issuer.Store]. On a Cluster it asks each master for its name, and not whether it
// may write, because that takes a key of one of its slots. Lookups find out.
func (s *Store) Servers(ctx context.Context) (servers []issuer.Server, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.lookTimeout)
	defer cancel()
	var mu sync.Mutex // the masters of a Cluster are asked concurrently
	ask := func(ctx context.Context, node redis.Cmdable, supersedes bool) error {
		info, err := node.Info(ctx, "replication").Result()
		server := issuer.Server{ID: masterReplid(info) + s.place}
		if supersedes {
			server.Supersedes = infoField(info, "master_replid2") + s.place
		}
		if err == nil && server.ID == s.place {
			err = errors.New("not a master that names its master_replid")
		} else if err == nil {
			mu.Lock()
			defer mu.Unlock()
			servers = append(servers, server)
		}
		return err
	}
	if s.cluster != nil {
		err = s.cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return ask(ctx, node, true) })
	} else if err = readError(s.client.GetEx(ctx, s.keys.generation(""), -1).Err()); err == nil { // as a check: it may write
		err = ask(ctx, s.client, false)
	}
	for i := range servers {
		// A replica that was reset and became a master of other slots still names its former master.
		if slices.ContainsFunc(servers, func(other issuer.Server) bool { return other.ID == servers[i].Supersedes }) {
			servers[i].Supersedes = s.place // no server has this name
		}
	}
	if err != nil {
		err = unavailable(err, "ask which servers these are")
	}
	return servers, err
}
