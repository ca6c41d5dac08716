// Package embedded is an in-process Redis for development and tests: a miniredis. Its data is lost
// in a restart. No session is lost, because the ledger has every session that is missing from
// Redis.
package embedded

import (
	"crypto/rand"
	"fmt"
	"net/url"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// Server is a running miniredis.
type Server struct {
	redis    *miniredis.Miniredis
	password string
}

// Start starts a server on a free loopback port. The server requires a password, because other
// users of the machine can reach the port. The password is part of the server's URL.
func Start() (*Server, error) {
	s := &Server{redis: miniredis.NewMiniRedis(), password: rand.Text()}
	s.redis.RequireAuth(s.password)
	// By default, miniredis does not expire keys as time passes.
	s.redis.ClockTTL(true)
	if err := s.redis.Start(); err != nil {
		return nil, fmt.Errorf("embedded: start: %w", err)
	}
	// miniredis does not support INFO replication, from which the store reads the server's name.
	replid := make([]byte, 20)
	rand.Read(replid)
	replication := fmt.Sprintf("# Replication\r\nrole:master\r\nmaster_replid:%x\r\n", replid)
	s.redis.Server().SetPreHook(func(c *server.Peer, command string, args ...string) bool {
		if command != "INFO" || len(args) != 1 || args[0] != "replication" {
			return false
		}
		c.WriteBulk(replication)
		return true
	})
	return s, nil
}

// URL returns the server's URL, including its password.
func (s *Server) URL() string {
	u := url.URL{Scheme: "redis", User: url.UserPassword("", s.password), Host: s.redis.Addr()}
	return u.String()
}

// Close stops the server and waits until its connections are closed.
func (s *Server) Close() { s.redis.Close() }
