package redisstore_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/redisstore"
	"github.com/sessiond/sessiond/redisstore/redisstoretest"
	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/session/issuer"
	"github.com/sessiond/sessiond/session/issuer/storetest"
)

// TestStore_WorksOverTLS connects as the users of deploy/redis/users.acl, on each topology, to servers that
// take only TLS connections.
func TestStore_WorksOverTLS_ASVS_V12_3_1_V12_3_2(t *testing.T) {
	t.Parallel()
	certificate, users := redisstoretest.NewCertificate(t, "127.0.0.1"), usersACL(t)
	trust := "ca_file=" + certificate.File
	server := func(args ...string) (addr string) {
		return redisstoretest.StartTLSServer(t, certificate, append([]string{"--aclfile", users}, args...)...)
	}
	single := server()
	sentinel := redisstoretest.StartTLSSentinel(t, certificate, single, "auth-user admin", "auth-pass secret")
	var nodes [2]*redis.Client
	for i := range nodes {
		nodes[i] = redisstoretest.Client(t, "rediss://admin:secret@"+server("--cluster-enabled", "yes")+"?"+trust).(*redis.Client)
	}
	for name, redisURL := range map[string]string{
		"single":   "rediss://sessiond:secret@" + single + "?" + trust,
		"Sentinel": "rediss+sentinel://sessiond:secret@" + sentinel + "?master=main&" + trust,
		"Cluster":  "rediss+cluster://sessiond:secret@" + joinCluster(t, nodes) + "?" + trust,
	} {
		t.Run(name, func(t *testing.T) {
			testRevocation(t, redisURL)
			report, err := redisstoretest.Open(t, strings.Replace(redisURL, "sessiond:", "sessiond-doctor:", 1), redisstore.Options{}).Inspect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wantInspected(t, report)
		})
	}
	t.Run("single, the contract tests", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) issuer.Store {
			return redisstoretest.Open(t, "rediss://sessiond:secret@"+single+"?"+trust, redisstore.Options{})
		})
	})
}

// testRevocation stores and revokes sessions of three users, and charges a limit.
func testRevocation(t *testing.T, redisURL string) {
	t.Helper()
	until := time.Now().Add(time.Hour)
	store := redisstoretest.Open(t, redisURL, redisstore.Options{})
	for range 3 { // of several slots of a Cluster
		subject := issuer.NewID()
		v := &testStore{Store: store, ref: session.Ref{Subject: subject, SessionID: "s1", TokenID: "t1"}}
		v.wantUnknown(t)
		v.backfill(t, active(1, until))
		v.wantActive(t)
		v.apply(t, issuer.Revocation{Subject: subject, SessionID: "s1", Until: until})
		if got, err := v.Look(t.Context(), v.ref); err != nil || !got.Entry.Ended {
			t.Errorf("Look = %+v, %v, want an ended session", got, err)
		}
	}
	if _, err := store.Limiter().Charge(t.Context(), time.Now(), []limit.Key{limit.Defaults().EmailChange.Of("u1")}); err != nil {
		t.Error(err)
	}
}
