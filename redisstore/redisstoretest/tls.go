package redisstoretest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Certificate holds the paths of a certificate for a server and of its private key. The certificate is its
// own authority, so a client that trusts the file trusts the server.
type Certificate struct{ File, KeyFile string }

// NewCertificate returns a new certificate for an IP address.
func NewCertificate(t testing.TB, ip string) Certificate {
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
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := Certificate{File: filepath.Join(dir, "certificate.pem"), KeyFile: filepath.Join(dir, "key.pem")}
	for path, block := range map[string]*pem.Block{c.File: {Type: "CERTIFICATE", Bytes: der}, c.KeyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// Options returns the command line of a Redis server or Sentinel that takes only TLS connections, also from
// other servers.
func (c Certificate) Options(port string) []string {
	return []string{
		"--port", "0", "--tls-port", port, "--tls-cert-file", c.File, "--tls-key-file", c.KeyFile, "--tls-ca-cert-file", c.File,
		"--tls-auth-clients", "no", "--tls-replication", "yes", "--tls-cluster", "yes",
	}
}

// StartTLSServer is [StartServer] with a server that takes only TLS connections. It returns the address.
func StartTLSServer(t testing.TB, c Certificate, args ...string) (addr string) {
	t.Helper()
	return startOnFreePort(t, func(port string) []string {
		return append(append([]string{"--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir()}, c.Options(port)...), args...)
	})
}

// StartTLSSentinel is [StartSentinel] for a master that takes only TLS connections, as the Sentinel does. It
// returns the Sentinel's address.
func StartTLSSentinel(t testing.TB, c Certificate, master string, settings ...string) (addr string) {
	t.Helper()
	return startOnFreePort(t, func(port string) []string {
		return append([]string{sentinelConfig(t, port, master, settings), "--sentinel"}, c.Options(port)...)
	})
}
