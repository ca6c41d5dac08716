package httpsuite

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// newCertificate returns a certificate for an address, and a file by which a program trusts it.
func newCertificate(t *testing.T, ip string) (certificate tls.Certificate, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: ip}, IPAddresses: []net.IP{net.ParseIP(ip)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "certificate.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// startTLS starts a server that takes TLS connections and forwards them without TLS to the target.
func startTLS(t *testing.T, target string, certificate tls.Certificate) (addr string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer client.Close()
				server, err := net.Dial("tcp", target)
				if err != nil {
					return
				}
				defer server.Close()
				all.Go(func() {
					defer client.Close()
					_, _ = io.Copy(client, server)
				})
				_, _ = io.Copy(server, client)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait() // the replicas have ended, and with them their connections
	})
	return l.Addr().String()
}

// Only the certificate that the operator trusts is accepted, and only for its own address. Without one,
// the log says why, and nothing is sent without TLS.
func TestRedis_IsUsedOnlyWithTrustedCertificate_ASVS_V12_3_1_V12_3_2_V12_3_4_V16_3_4(t *testing.T) {
	t.Parallel()
	_, url := startRedis(t)
	redis := strings.TrimPrefix(url, "redis://")
	right, trusted := newCertificate(t, "127.0.0.1")
	wrong, trustedWrong := newCertificate(t, "192.0.2.1")
	empty := t.TempDir()
	for name, c := range map[string]struct {
		addr, file string
		want       string // text that the log has; empty: Redis is used
	}{
		"a trusted certificate":                {startTLS(t, redis, right), trusted, ""},
		"a certificate of another authority":   {startTLS(t, redis, right), trustedWrong, "x509: certificate signed by unknown authority"},
		"a certificate of another server":      {startTLS(t, redis, wrong), trustedWrong, "x509: certificate is valid for 192.0.2.1, not 127.0.0.1"},
		"a server without TLS":                 {redis, trusted, "Redis does not answer yet"},
		"no certificate that the system knows": {startTLS(t, redis, right), os.DevNull, "x509: certificate signed by unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			env := serveEnvironment(t)
			env.set([]string{"REDIS_URL=rediss://" + c.addr})
			env["SSL_CERT_FILE"], env["SSL_CERT_DIR"] = c.file, empty
			binary, logs := program(t), &lockedBuffer{}
			runProgram(t, binary, env, "migrate")
			base := startReplica(t, binary, env, logs)
			s := &service{base: base, replicas: []string{base}, logs: logs}
			state := s.call(t, "GET", "/readyz").text(t, "checks.redis")
			if log := s.logged(t); (state == "ok") != (c.want == "") || !strings.Contains(log, c.want) {
				t.Errorf("Redis is %s, and the log says\n%.2000s\nwant %q", state, log, c.want)
			}
		})
	}
}
