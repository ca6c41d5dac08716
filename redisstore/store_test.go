package redisstore_test

import (
	"testing"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/session/issuer/storetest"
)

func TestStore_PassesContractTestsOnEmbeddedRedis(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) issuer.Store { return redisstoretest.New(t) })
}

func TestStore_PassesContractTestsOnRealRedis(t *testing.T) {
	t.Parallel()
	redisstoretest.RealURL(t) // RealURL skips the test if there is no real Redis
	storetest.Run(t, func(t *testing.T) issuer.Store { return redisstoretest.NewReal(t) })
}

func TestStore_PassesContractTestsOnCluster(t *testing.T) {
	t.Parallel()
	redisstoretest.ClusterURL(t)
	storetest.Run(t, func(t *testing.T) issuer.Store { return redisstoretest.NewCluster(t) })
}
