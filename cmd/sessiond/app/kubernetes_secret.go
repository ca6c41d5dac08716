package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A kubernetesSecret is one entry of a Secret, which a pod reads and replaces through the Kubernetes API.
// The API server is the only one that it talks to, and two requests need no client library.
type kubernetesSecret struct {
	client     *http.Client
	url, token string
	entry      string
}

// openKubernetesSecret returns an entry of the Secret name in the pod's own namespace. The directory account
// is where Kubernetes mounts the pod's token and the API server's certificate authority.
func openKubernetesSecret(account, name, entry string, env lookupEnv) (*kubernetesSecret, error) {
	host, _ := env("KUBERNETES_SERVICE_HOST")
	port, _ := env("KUBERNETES_SERVICE_PORT")
	if host == "" || port == "" {
		return nil, errors.New("--kubernetes-secret works only in a pod: KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is not set")
	}
	var files [3]string
	for i, file := range []string{"token", "namespace", "ca.crt"} {
		data, err := os.ReadFile(filepath.Join(account, file)) //nolint:gosec // G304: the operator names the directory
		if err != nil {
			return nil, fmt.Errorf("the pod has no service account token: %w", err)
		}
		files[i] = strings.TrimSpace(string(data))
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM([]byte(files[2])) {
		return nil, fmt.Errorf("%s has no certificate", filepath.Join(account, "ca.crt"))
	}
	return &kubernetesSecret{
		client: &http.Client{
			Transport: &http.Transport{
				TLSClientConfig:   &tls.Config{RootCAs: authorities, MinVersion: tls.VersionTLS12},
				DisableKeepAlives: true, // the command ends after two requests
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Timeout:       30 * time.Second,
		},
		url: fmt.Sprintf("https://%s/api/v1/namespaces/%s/secrets/%s",
			net.JoinHostPort(host, port), url.PathEscape(files[1]), url.PathEscape(name)),
		token: files[0],
		entry: entry,
	}, nil
}

// change replaces the entry by what f returns. It writes nothing if f returns an error or the same bytes.
// It returns an error if the Secret was changed since it was read.
func (s *kubernetesSecret) change(ctx context.Context, f func([]byte) ([]byte, error)) error {
	var secret struct {
		Data map[string][]byte `json:"data"`
	}
	body, err := s.call(ctx, http.MethodGet, nil)
	if err != nil {
		return err
	}
	// The other fields go back as they came. Among them is the version by which the API server sees that
	// somebody else has changed the Secret.
	object := map[string]json.RawMessage{}
	if err := errors.Join(json.Unmarshal(body, &object), json.Unmarshal(body, &secret)); err != nil {
		return fmt.Errorf("the API server's answer is not a Secret: %w", err)
	}
	old, ok := secret.Data[s.entry]
	if !ok {
		return fmt.Errorf("the Secret has no entry %q", s.entry)
	}
	next, err := f(old)
	if err != nil || bytes.Equal(next, old) {
		return err
	}
	secret.Data[s.entry] = next
	if object["data"], err = json.Marshal(secret.Data); err != nil {
		return err
	}
	if body, err = json.Marshal(object); err != nil {
		return err
	}
	_, err = s.call(ctx, http.MethodPut, body)
	return err
}

func (s *kubernetesSecret) call(ctx context.Context, method string, body []byte) ([]byte, error) {
	q, err := http.NewRequestWithContext(ctx, method, s.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	q.Header.Set("Authorization", "Bearer "+s.token)
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Accept", "application/json")
	r, err := s.client.Do(q)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()                                     //nolint:errcheck // an error does not matter, because the body is read to its end
	answer, err := io.ReadAll(io.LimitReader(r.Body, 4<<20)) // etcd limits a Secret to about 1.5 MB
	if err != nil {
		return nil, err
	}
	if r.StatusCode != http.StatusOK {
		var status struct {
			Message string `json:"message"`
		}
		_ = json.Unmarshal(answer, &status) // without a message, the status says enough
		return nil, fmt.Errorf("the Kubernetes API answered %s to %s: %s", r.Status, method, status.Message)
	}
	return answer, nil
}
