package redisstore_test

import (
	"testing"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/session/issuer/storetest"
)

func TestEmbedded(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) issuer.Store { return redisstoretest.New(t) })
}

func TestReal(t *testing.T) {
	t.Parallel()
	redisstoretest.RealURL(t) // skips the whole, loudly and once
	storetest.Run(t, func(t *testing.T) issuer.Store { return redisstoretest.NewReal(t) })
}

func TestCluster(t *testing.T) {
	t.Parallel()
	redisstoretest.ClusterURL(t)
	storetest.Run(t, func(t *testing.T) issuer.Store { return redisstoretest.NewCluster(t) })
}
