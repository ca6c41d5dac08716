package httpsuite

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sessiond/sessiond/cmd/sessiond/app"
)

func TestPassword_NeverExpires_ASVS_V6_2_10(t *testing.T) {
	settings := app.Settings{AccessTokenTTL: time.Hour, SessionIdleTTL: 48 * time.Hour, SessionMaxTTL: 96 * time.Hour}
	eachStore(t, settings, func(t *testing.T, s *service, c *clock) {
		p := s.register(t)
		for range 5 {
			c.set(c.Now().AddDate(1, 0, 0))
			if !s.alive(t, s.login(t, p)) {
				t.Error("a login with the old password gives no valid token")
			}
		}
	})
}

func TestNewService_HasNoDefaultAccount_ASVS_V6_3_2(t *testing.T) {
	eachMode(t, func(t *testing.T, s *service) {
		for _, name := range []string{"admin", "administrator", "root", "sessiond", "test", "guest", "postgres", "user", "demo"} {
			for _, password := range []string{name, "password", "changeme", "admin", "12345678"} {
				s.newSession(t, name, password).problem(t, false, 401, "invalid_credentials")
			}
			s.call(t, "POST", "/loginUser", credentials(name, name)).problem(t, true, 401, "user_not_found")
		}
	})
}

// The file of the database holds hashes of tokens and passwords only. 'sessiond dev' has the same tables
// as 'sessiond serve'.
func TestDatabase_HoldsNoTokenAndNoPassword_ASVS_V6_5_2_V14_2_4(t *testing.T) {
	data := t.TempDir()
	s, stop := startStoppableDev(t, data)
	defer stop()
	p := s.confirmed(t)
	a := s.call(t, "POST", "/loginUser", credentials(p.username, password)).want(t, 200)
	access, refresh := s.refreshed(t, a.text(t, "refresh_token"), 200)
	secrets := map[string]string{
		"the password": password, "an access token": access, "a refresh token": refresh, "the refresh token before it": a.text(t, "refresh_token"),
		"a device token": a.header.Get("X-Device-Token"), "a reset token": s.resetToken(t, p), "a confirmation token": s.confirmToken(t, p.email),
	}
	stop()
	files, err := filepath.Glob(filepath.Join(data, "sessiond.db*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("found the files %v, %v", files, err)
	}
	var stored []byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, text...)
	}
	if !bytes.Contains(stored, []byte(p.username)) {
		t.Fatal("the username is not in the files, so this test reads the wrong ones")
	}
	for what, secret := range secrets {
		raw, _ := base64.RawURLEncoding.DecodeString(secret)
		if len(secret) < 10 || bytes.Contains(stored, []byte(secret)) || len(raw) > 10 && bytes.Contains(stored, raw) {
			t.Errorf("the database holds %s: %q", what, secret)
		}
	}
}
