package gateways_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// writeCertificate writes a certificate for 127.0.0.1 and its key to dir, and both to both.pem. The key
// is RSA, because old cipher suites need such a key.
func writeCertificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	private := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	write(t, dir, "certificate.pem", string(certificate))
	write(t, dir, "key.pem", string(private))
	write(t, dir, "both.pem", string(certificate)+string(private))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certificate)
	return pool
}

// TestGateways_AcceptOnlyTLS12And13_ASVS_V12_1_1_V12_1_2_V12_2_1 runs gateways with the lines about TLS in
// README.md.
func TestGateways_AcceptOnlyTLS12And13_ASVS_V12_1_1_V12_1_2_V12_2_1(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, file, plain, port string }{
		{"nginx", "nginx.conf", "listen %s;", "listen 443"},
		{"haproxy", "haproxy.cfg", "bind %s", "bind :443"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := gateways[slices.IndexFunc(gateways, func(g gateway) bool { return g.name == c.name })]
			program, dir, addr := g.find(t), t.TempDir(), freeAddr(t)
			roots := writeCertificate(t, dir)
			_, lines, found := strings.Cut(string(readme), "```"+c.name+"\n")
			lines, _, _ = strings.Cut(lines, "\n```")
			if !found || !strings.Contains(lines, c.port) {
				t.Fatalf("README.md has no lines about TLS for %s", c.name)
			}
			lines = strings.NewReplacer(c.port, strings.TrimSuffix(fmt.Sprintf(c.plain, addr), ";"), "/etc/ssl/sessiond", dir).Replace(lines)
			cmd := g.command(t, program, dir, addrs{addr, "127.0.0.1:1", "127.0.0.1:1"}) // nothing listens there
			path := filepath.Join(dir, c.file)
			config, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			plain := []byte(fmt.Sprintf(c.plain, addr) + "\n")
			if !bytes.Contains(config, plain) {
				t.Fatalf("%s has no line %s", c.file, plain)
			}
			write(t, dir, c.file, string(bytes.Replace(config, plain, []byte(lines+"\n"), 1)))
			start(t, addr, cmd)

			dial := func(config *tls.Config) (*tls.Conn, error) {
				config.RootCAs = roots
				return tls.DialWithDialer(&net.Dialer{Timeout: 30 * time.Second}, "tcp", addr, config)
			}
			for version, accepted := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
				conn, err := dial(&tls.Config{MinVersion: version, MaxVersion: version})
				if (err == nil) != accepted {
					t.Errorf("%s: %v, want accepted: %t", tls.VersionName(version), err, accepted)
				}
				if err != nil {
					continue
				}
				// Nobody can check the token, so the answer is 503. It comes over TLS.
				fmt.Fprint(conn, "GET /things HTTP/1.1\r\nHost: app.example\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n")
				if a, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || a.StatusCode != 503 {
					t.Errorf("%s: a request gets %v, %v, want 503", tls.VersionName(version), a, err)
				} else {
					_ = a.Body.Close()
				}
				_ = conn.Close()
			}
			weak := slices.Clone(tls.InsecureCipherSuites())
			for _, suite := range tls.CipherSuites() {
				if strings.Contains(suite.Name, "CBC") || strings.HasPrefix(suite.Name, "TLS_RSA_") {
					weak = append(weak, suite)
				}
			}
			for _, suite := range weak {
				conn, err := dial(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite.ID}})
				if err == nil {
					_ = conn.Close()
					t.Errorf("the suite %s is accepted", suite.Name)
				} else if !strings.Contains(err.Error(), "remote error: ") {
					t.Errorf("the suite %s: %v, want a refusal by the gateway", suite.Name, err)
				}
			}
			if len(weak) < 8 {
				t.Errorf("tried %d weak suites, so this test sees too little", len(weak))
			}

			// The port does not speak plain HTTP, not even to redirect.
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
			fmt.Fprint(conn, "GET /things HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n")
			if a, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
				if _ = a.Body.Close(); a.StatusCode != 400 {
					t.Errorf("a request without TLS gets status %d, want 400 or no answer", a.StatusCode)
				}
			}
		})
	}
}
