package app

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sessiond/sessiond/session"
)

// statuses returns the keys of an encoded key set as "active published".
func statuses(t *testing.T, data []byte) string {
	t.Helper()
	set, err := session.ParseKeySet(data)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, k := range set.Keys() {
		all = append(all, string(k.Status))
	}
	return strings.Join(all, " ")
}

// keyFile returns a key set whose keys have the given statuses and ages.
func keyFile(t *testing.T, keys map[session.KeyStatus]time.Duration) []byte {
	t.Helper()
	var all []session.Key
	for _, status := range []session.KeyStatus{session.KeyRetired, session.KeyActive, session.KeyPublished} {
		age, ok := keys[status]
		if !ok {
			continue
		}
		key, err := newKey(session.AlgES256)
		if err != nil {
			t.Fatal(err)
		}
		key.Status, key.CreatedAt = status, key.CreatedAt.Add(-age)
		if status == session.KeyRetired {
			key.RetiredAt = key.CreatedAt
		}
		all = append(all, key)
	}
	data, err := encodeKeys(all...)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

var rotations = map[string]struct {
	keys map[session.KeyStatus]time.Duration // the age of each key
	want string
}{
	"keeps a young key":                         {map[session.KeyStatus]time.Duration{session.KeyActive: 23 * time.Hour}, "active"},
	"adds a key":                                {map[session.KeyStatus]time.Duration{session.KeyActive: 25 * time.Hour}, "active published"},
	"waits until verifiers know the key":        {map[session.KeyStatus]time.Duration{session.KeyActive: 25 * time.Hour, session.KeyPublished: 5 * time.Minute}, "active published"},
	"activates the key":                         {map[session.KeyStatus]time.Duration{session.KeyActive: 25 * time.Hour, session.KeyPublished: 7 * time.Minute}, "retired active"},
	"removes expired keys when it adds another": {map[session.KeyStatus]time.Duration{session.KeyRetired: 48 * time.Hour, session.KeyActive: 25 * time.Hour}, "active published"},
}

func TestKeysRotate_DoesTheStepThatIsDueInFile(t *testing.T) {
	for name, c := range rotations {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys.json")
			if err := os.WriteFile(path, keyFile(t, c.keys), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := Run(t.Context(), []string{"keys", "rotate", "--file", path, "--max-age", "24h"}, environment(), io.Discard, io.Discard); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := statuses(t, data); got != c.want {
				t.Errorf("the keys are %q, want %q", got, c.want)
			}
			set, err := session.ParseKeySet(data)
			if err != nil || set.Keys()[len(set.Keys())-1].Alg != session.AlgES256 {
				t.Errorf("the new key does not have the algorithm of the old one, error %v", err)
			}
		})
	}
}

// apiServer is an API server with one Secret. A test of deploy/cluster does the same with a real one.
type apiServer struct {
	*httptest.Server
	secret   map[string]any
	writes   int
	conflict bool
}

func startAPIServer(t *testing.T, keys []byte) *apiServer {
	t.Helper()
	s := &apiServer{secret: map[string]any{
		"kind":     "Secret",
		"metadata": map[string]any{"name": "keys", "resourceVersion": "7", "labels": map[string]any{"team": "identity"}},
		"data":     map[string]any{"signing-keys": keys, "other": []byte("kept")},
		"type":     "Opaque",
	}}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		refuse := func(status int, message string) {
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"kind":"Status","message":%q}`, message)
		}
		switch {
		case q.Header.Get("Authorization") != "Bearer the-token":
			refuse(http.StatusUnauthorized, "no token")
		case q.URL.Path != "/api/v1/namespaces/identity/secrets/keys":
			refuse(http.StatusForbidden, "another Secret")
		case q.Method == http.MethodPut && s.conflict:
			refuse(http.StatusConflict, "the object has been modified")
		case q.Method == http.MethodPut:
			s.writes++
			s.secret = nil
			if err := json.NewDecoder(q.Body).Decode(&s.secret); err != nil {
				t.Error(err)
			}
			fallthrough
		default:
			if err := json.NewEncoder(w).Encode(s.secret); err != nil {
				t.Error(err)
			}
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// rotate runs the command as in a pod, and returns its output.
func (s *apiServer) rotate(t *testing.T, args ...string) (string, error) {
	t.Helper()
	account := t.TempDir()
	for name, content := range map[string]string{
		"token":     "the-token\n",
		"namespace": "identity",
		"ca.crt":    string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})),
	} {
		if err := os.WriteFile(filepath.Join(account, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	env := func(name string) (string, bool) {
		switch name {
		case "KUBERNETES_SERVICE_HOST":
			return u.Hostname(), true
		case "KUBERNETES_SERVICE_PORT":
			return u.Port(), true
		}
		return "", false
	}
	var out bytes.Buffer
	args = append([]string{"keys", "rotate", "--service-account", account, "--max-age", "24h", "--kubernetes-secret", "keys"}, args...)
	err = Run(t.Context(), args, env, &out, io.Discard)
	return out.String(), err
}

func TestKeysRotate_DoesTheStepThatIsDueInKubernetesSecret(t *testing.T) {
	for name, c := range rotations {
		t.Run(name, func(t *testing.T) {
			before := keyFile(t, c.keys)
			s := startAPIServer(t, before)
			out, err := s.rotate(t)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Metadata struct {
					ResourceVersion string
					Labels          map[string]string
				}
				Data map[string][]byte
			}
			data, err := json.Marshal(s.secret)
			if err == nil {
				err = json.Unmarshal(data, &got)
			}
			if err != nil {
				t.Fatal(err)
			}
			if keys := statuses(t, got.Data["signing-keys"]); keys != c.want || strings.Count(out, "\n") != len(strings.Fields(c.want)) {
				t.Errorf("the keys are %q, want %q; the output is %s", keys, c.want, out)
			}
			if string(got.Data["other"]) != "kept" || got.Metadata.ResourceVersion != "7" || got.Metadata.Labels["team"] != "identity" {
				t.Errorf("the command changed something else: %+v", got)
			}
			if due := !bytes.Equal(got.Data["signing-keys"], before); s.writes > 1 || due != (s.writes == 1) {
				t.Errorf("the command wrote the Secret %d times", s.writes)
			}
		})
	}
}

func TestKeysRotate_ReportsWhyKubernetesSecretIsUnchanged(t *testing.T) {
	s := startAPIServer(t, keyFile(t, map[session.KeyStatus]time.Duration{session.KeyActive: 25 * time.Hour}))
	for want, run := range map[string]func() error{
		"409 Conflict to PUT: the object has been modified": func() error {
			s.conflict = true
			_, err := s.rotate(t)
			return err
		},
		`no entry "missing"`: func() error {
			_, err := s.rotate(t, "--secret-key", "missing")
			return err
		},
		"403 Forbidden to GET: another Secret": func() error {
			_, err := s.rotate(t, "--kubernetes-secret", "another/keys")
			return err
		},
		"KUBERNETES_SERVICE_HOST": func() error {
			return Run(t.Context(), []string{"keys", "rotate", "--kubernetes-secret", "keys"}, environment(), io.Discard, io.Discard)
		},
		"--file FILE is required": func() error {
			return Run(t.Context(), []string{"keys", "rotate"}, environment(), io.Discard, io.Discard)
		},
	} {
		if err := run(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want one that contains %q", err, want)
		}
	}
	if s.writes > 0 {
		t.Errorf("the Secret was written %d times", s.writes)
	}
}
