package issuer

import (
	"testing"
	"time"
)

// A revocation that a replica claimed and could not enforce is in force 5 s after Redis is back.
func TestOutbox_LeaseIsLongEnoughForABatchAndShortEnoughForThePromise(t *testing.T) {
	const applyTimeout = 500 * time.Millisecond // the default of redisstore
	rounds := time.Duration(outboxBatch+outboxParallel-1) / outboxParallel
	if took := rounds * applyTimeout; took >= outboxLease {
		t.Errorf("a batch of a server that is down takes %v, and its lease %v", took, outboxLease)
	}
	if latest := outboxLease + outboxInterval; latest >= 5*time.Second {
		t.Errorf("a claimed revocation is tried again after up to %v", latest)
	}
}
