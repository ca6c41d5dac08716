package redisstore

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
)

// A server is named by its master_replid and by the place of the keys on it: the database and the
// prefix. Redis changes the master_replid after every event that can have returned the data to an
// earlier state: a restart from a saved file, a failover to a replica that was behind, a copy of
// another server's data. See decision 0018.

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

// Servers implements [issuer.Store].
func (s *Store) Servers(ctx context.Context) ([]issuer.Server, error) {
	ctx, cancel := context.WithTimeout(ctx, s.lookTimeout)
	defer cancel()
	if s.cluster == nil {
		// GETEX, like a check, makes a master that may not write refuse.
		pipe := s.client.Pipeline()
		guard, info := pipe.GetEx(ctx, s.keys.generation(""), -1), pipe.Info(ctx, "replication")
		_, _ = pipe.Exec(ctx) // each command has its own error
		replid := masterReplid(info.Val())
		switch err := cmp.Or(readError(guard.Err()), info.Err()); {
		case err != nil:
			return nil, unavailable(err, "ask the server's name")
		case replid == "":
			return nil, unavailable(errors.New("not a master that names its master_replid"), "ask the server's name")
		}
		return []issuer.Server{{ID: replid + s.place}}, nil
	}
	var mu sync.Mutex
	var servers []issuer.Server
	err := s.cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		info, err := node.Info(ctx, "replication").Result()
		if replid := masterReplid(info); replid != "" {
			mu.Lock()
			defer mu.Unlock()
			servers = append(servers, issuer.Server{ID: replid + s.place, Supersedes: infoField(info, "master_replid2") + s.place})
		}
		return err
	})
	if err != nil {
		err = unavailable(err, "ask the servers' names")
	}
	return servers, err
}
