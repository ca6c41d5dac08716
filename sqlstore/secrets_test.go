package sqlstore_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sessiond/sessiond/session"
	"github.com/sessiond/sessiond/sqlstore"
)

func TestDeviceSecret_IsSameForAllReplicas(t *testing.T) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			url := d.url(t)
			if err := open(t, url, sqlstore.Options{}).Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			const replicas = 20
			secrets := make([][]byte, replicas)
			start := make(chan struct{})
			var group errgroup.Group
			for i := range replicas {
				db := open(t, url, sqlstore.Options{MaxConns: 2, QueryTimeout: 30 * time.Second})
				group.Go(func() (err error) {
					<-start
					secrets[i], err = db.DeviceSecret(t.Context())
					return err
				})
			}
			close(start)
			if err := group.Wait(); err != nil {
				t.Fatal(err)
			}
			again, err := open(t, url, sqlstore.Options{}).DeviceSecret(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for i, secret := range append(secrets, again) {
				if len(secret) != 32 || !bytes.Equal(secret, secrets[0]) {
					t.Errorf("replica %d has the secret %x, want %x", i, secret, secrets[0])
				}
			}
		})
	}
}

func TestDeviceSecret_ReturnsNewSecretAfterDeletion(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		first, err := db.DeviceSecret(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// Operators delete the secret to make all device tokens invalid.
		if _, err := db.SQL().ExecContext(t.Context(), `DELETE FROM secrets`); err != nil {
			t.Fatal(err)
		}
		second, err := db.DeviceSecret(t.Context())
		if err != nil || bytes.Equal(first, second) {
			t.Errorf("the secret after the deletion is %x (%v), was %x", second, err, first)
		}
	})
}

func TestDeviceSecret_RefusesEmptySecret(t *testing.T) {
	onEach(t, func(t *testing.T, db *sqlstore.DB) {
		if _, err := db.DeviceSecret(t.Context()); err != nil {
			t.Fatal(err)
		}
		// DeviceSecret must not return an empty secret, because anybody could make device tokens
		// with it.
		if _, err := db.SQL().ExecContext(t.Context(), db.SQL().Rebind(`UPDATE secrets SET value = ?`), []byte{}); err != nil {
			t.Fatal(err)
		}
		if secret, err := db.DeviceSecret(t.Context()); err == nil || errors.Is(err, session.ErrUnavailable) {
			t.Errorf("DeviceSecret = %x, %v, want an error that is not an outage", secret, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := db.DeviceSecret(t.Context()); !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("DeviceSecret of a closed database = %v", err)
		}
	})
}
