package redisstore_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
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

// TestUsersACL_GivesEachUserWhatItNeedsAndNoMore_ASVS_V13_2_1_V13_2_2_V13_2_3 starts Redis with deploy/redis/users.acl.
func TestUsersACL_GivesEachUserWhatItNeedsAndNoMore_ASVS_V13_2_1_V13_2_2_V13_2_3(t *testing.T) {
	t.Parallel()
	file, err := os.ReadFile("../deploy/redis/users.acl")
	if err != nil {
		t.Fatal(err)
	}
	text := string(file)
	for _, permissions := range []string{leastACL + " " + leastClusterACL, leastACL + " " + leastClusterACL + " " + inspectACL, checkACL + " " + leastClusterACL} {
		if !strings.Contains(text, " "+permissions+"\n") {
			t.Errorf("users.acl has no user with exactly the permissions %s, which doc.go documents", permissions)
		}
	}
	if zeros := strings.Repeat("0", 64); strings.Count(text, "#"+zeros+" ") != 4 || strings.Count(text, "#") != 4 {
		t.Errorf("users.acl has %d users without a usable password, and %d passwords; want 4 of 4", strings.Count(text, "#"+zeros+" "), strings.Count(text, "#"))
	}
	testUsersACL(t)
}

// usersACL returns the path of a copy of deploy/redis/users.acl in which the password of each user is "secret".
func usersACL(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../deploy/redis/users.acl")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("secret"))
	path := filepath.Join(t.TempDir(), "users.acl")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), strings.Repeat("0", 64), hex.EncodeToString(sum[:]))), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// testUsersACL tests the users of deploy/redis/users.acl.
func testUsersACL(t *testing.T) {
	t.Helper()
	redisURL := redisstoretest.StartServer(t, "--aclfile", usersACL(t))
	as := func(user string) string { return strings.Replace(redisURL, "redis://", "redis://"+user+":secret@", 1) }

	t.Run("sessiond passes the contract tests", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) issuer.Store {
			return redisstoretest.Open(t, as("sessiond"), redisstore.Options{})
		})
	})
	t.Run("sessiond keeps limits", func(t *testing.T) {
		limiter := redisstoretest.Open(t, as("sessiond"), redisstore.Options{}).Limiter()
		if _, err := limiter.Charge(t.Context(), time.Now(), []limit.Key{limit.Defaults().EmailChange.Of("u1")}); err != nil {
			t.Error(err)
		}
	})
	t.Run("sessiond-doctor reads every setting", func(t *testing.T) {
		report, err := redisstoretest.Open(t, as("sessiond-doctor"), redisstore.Options{}).Inspect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantInspected(t, report)
	})
	t.Run("sessiond-check only checks", func(t *testing.T) {
		store := redisstoretest.Open(t, as("sessiond-check"), redisstore.Options{})
		if _, err := store.Look(t.Context(), session.Ref{Subject: "nobody"}); err != nil {
			t.Error(err)
		}
		if _, err := store.Apply(t.Context(), issuer.Revocation{Subject: "nobody", SessionID: "s", Until: time.Now().Add(time.Hour)}); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("Apply = %v, want ErrUnavailable", err)
		}
	})
	for user, forbidden := range map[string][]string{
		"sessiond": {
			"GET other", "SET other 1", "KEYS *", "FLUSHALL", "CONFIG GET *", "CLIENT KILL TYPE normal", "ACL LIST", "SHUTDOWN",
			"SCRIPT FLUSH", "PUBLISH c m", "REPLICAOF NO ONE", "MONITOR", "SAVE",
		},
		"sessiond-doctor": {"CONFIG SET maxmemory 1", "FLUSHDB"},
	} {
		client := redisstoretest.Client(t, as(user))
		for _, command := range forbidden {
			if err := client.Do(t.Context(), words(command)...).Err(); !redis.HasErrorPrefix(err, "NOPERM ") {
				t.Errorf("%s: %s = %v, want NOPERM", user, command, err)
			}
		}
	}
	anonymous := redis.NewClient(&redis.Options{Addr: strings.TrimPrefix(redisURL, "redis://"), Protocol: 2, DisableIdentity: true})
	defer anonymous.Close()
	if err := anonymous.Ping(t.Context()).Err(); !redis.HasErrorPrefix(err, "NOAUTH ") {
		t.Errorf("PING without a password = %v, want NOAUTH", err)
	}
}
