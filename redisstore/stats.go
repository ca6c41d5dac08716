package redisstore

import "github.com/redis/go-redis/v9"

// LookRoundTrips returns how many round trips the calls of Look have taken so far. They take one each
// at low load. At high load many calls share one.
func (s *Store) LookRoundTrips() uint64 { return s.roundTrips.Load() }

// PoolStats returns statistics of the connections, on a Cluster those of all nodes together. On a
// Cluster that has not answered yet, the call may wait for the network.
func (s *Store) PoolStats() *redis.PoolStats { return s.client.PoolStats() }
