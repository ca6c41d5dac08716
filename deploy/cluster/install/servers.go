package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// A cluster is a running API server with etcd and the controllers. It has no nodes.
type cluster struct {
	kubeconfig string // of an administrator
	authority  string // file
	config     *rest.Config
	client     *kubernetes.Clientset
	processes  []*exec.Cmd
	cancel     context.CancelFunc
}

// startCluster starts the programs in the directory bin on free loopback ports. Their data, certificates
// and logs are in dir.
func startCluster(ctx context.Context, bin, dir string) (*cluster, error) {
	ctx, cancel := context.WithCancel(ctx)
	c := &cluster{cancel: cancel, kubeconfig: filepath.Join(dir, "kubeconfig")}
	ports, err := freePorts(4)
	if err != nil {
		return c, err
	}
	etcd, peers, api, controllers := ports[0], ports[1], ports[2], ports[3]
	url := "https://127.0.0.1:" + api

	p, err := newAuthority(dir)
	if err != nil {
		return c, err
	}
	c.authority = p.file("ca.crt")
	for _, f := range []func() error{
		func() error { return p.issue("apiserver", pkix.Name{CommonName: "kube-apiserver"}) },
		func() error {
			return p.issue("admin", pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}})
		},
		func() error { return p.issue("controllers", pkix.Name{CommonName: "system:kube-controller-manager"}) },
		func() error { return p.issue("accounts", pkix.Name{CommonName: "service accounts"}) },
		func() error { return p.writeKubeconfig(c.kubeconfig, url, "admin") },
		func() error { return p.writeKubeconfig(p.file("controllers.kubeconfig"), url, "controllers") },
	} {
		if err := f(); err != nil {
			return c, err
		}
	}

	if err := c.start(ctx, dir, filepath.Join(bin, "etcd"),
		"--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=http://127.0.0.1:"+etcd, "--advertise-client-urls=http://127.0.0.1:"+etcd,
		"--listen-peer-urls=http://127.0.0.1:"+peers, "--initial-advertise-peer-urls=http://127.0.0.1:"+peers,
		"--initial-cluster=default=http://127.0.0.1:"+peers,
	); err != nil {
		return c, err
	}
	if err := c.start(ctx, dir, filepath.Join(bin, "apiserver"),
		"--etcd-servers=http://127.0.0.1:"+etcd, "--bind-address=127.0.0.1", "--secure-port="+api,
		// There are no nodes that could reach it, so it need not publish an address.
		"--advertise-address=192.0.2.1", "--endpoint-reconciler-type=none",
		"--tls-cert-file="+p.file("apiserver.crt"), "--tls-private-key-file="+p.file("apiserver.key"), "--client-ca-file="+c.authority,
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file="+p.file("accounts.crt"),
		"--service-account-signing-key-file="+p.file("accounts.key"),
		"--authorization-mode=Node,RBAC", "--service-cluster-ip-range=10.96.0.0/16", "--cert-dir="+dir,
	); err != nil {
		return c, err
	}
	if c.config, err = clientcmd.BuildConfigFromFlags("", c.kubeconfig); err != nil {
		return c, err
	}
	c.config.QPS, c.config.Burst = 200, 400
	if c.client, err = kubernetes.NewForConfig(c.config); err != nil {
		return c, err
	}
	if err := await(ctx, 3*time.Minute, "the API server is ready", func() error {
		return c.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	}); err != nil {
		return c, err
	}
	return c, c.start(ctx, dir, filepath.Join(bin, "controllers"),
		"--kubeconfig="+p.file("controllers.kubeconfig"), "--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port="+controllers,
		"--root-ca-file="+c.authority, "--service-account-private-key-file="+p.file("accounts.key"), "--cert-dir="+dir,
	)
}

// start starts a program whose output goes to a file. It stops with an interrupt when ctx is done, and
// cannot outlive this program.
func (c *cluster) start(ctx context.Context, dir, program string, args ...string) error {
	log, err := os.Create(filepath.Join(dir, filepath.Base(program)+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.processes = append(c.processes, cmd)
	return cmd.Start()
}

// stop stops the programs, the last one first.
func (c *cluster) stop() {
	c.cancel()
	for i := len(c.processes) - 1; i >= 0; i-- {
		_ = c.processes[i].Wait() // the interrupt is the reason
	}
}

func freePorts(n int) (ports []string, err error) {
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

// await calls f until it returns nil.
func await(ctx context.Context, limit time.Duration, what string, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited for %v until %s: %w", limit, what, err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// An authority issues the certificates of one cluster.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (p *authority) file(name string) string { return filepath.Join(p.dir, name) }

func newAuthority(dir string) (*authority, error) {
	p := &authority{dir: dir}
	template := certificate(pkix.Name{CommonName: "authority"})
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage |= x509.KeyUsageCertSign
	return p, p.sign("ca", template)
}

func certificate(name pkix.Name) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: name, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost", "kubernetes.default.svc"},
	}
}

func (p *authority) issue(file string, name pkix.Name) error { return p.sign(file, certificate(name)) }

// sign writes FILE.crt and FILE.key. The first certificate signs itself and all others.
func (p *authority) sign(file string, template *x509.Certificate) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	parent, signer := p.cert, p.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return err
	}
	if p.cert == nil {
		p.key = key
		if p.cert, err = x509.ParseCertificate(der); err != nil {
			return err
		}
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.file(file+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: secret}), 0o600); err != nil {
		return err
	}
	return os.WriteFile(p.file(file+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
}

func (p *authority) writeKubeconfig(path, url, user string) error {
	config := clientcmdapi.NewConfig()
	config.Clusters["cluster"] = &clientcmdapi.Cluster{Server: url, CertificateAuthority: p.file("ca.crt")}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificate: p.file(user + ".crt"), ClientKey: p.file(user + ".key")}
	config.Contexts["cluster"] = &clientcmdapi.Context{Cluster: "cluster", AuthInfo: user}
	config.CurrentContext = "cluster"
	return clientcmd.WriteToFile(*config, path)
}
