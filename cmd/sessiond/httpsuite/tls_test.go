package httpsuite

import (
	"os"
	"strings"
	"testing"

	"github.com/sessiond/sessiond/redisstore/redisstoretest"
)

// Only the certificate that the system trusts is accepted, and only for its own address. Without one, the log
// says why, and nothing is sent without TLS. The suite of faults tests the authorities that a URL names.
func TestRedis_IsUsedOnlyWithTrustedCertificate_ASVS_V12_3_1_V12_3_2_V12_3_4_V16_3_4(t *testing.T) {
	t.Parallel()
	_, plain := startRedis(t)
	right, other, elsewhere := redisstoretest.NewCertificate(t, "127.0.0.1"), redisstoretest.NewCertificate(t, "127.0.0.1"), redisstoretest.NewCertificate(t, "192.0.2.1")
	addr := redisstoretest.StartTLSServer(t, right)
	empty := t.TempDir()
	for name, c := range map[string]struct {
		addr, file string
		want       string // text that the log has; empty: Redis is used
	}{
		"a trusted certificate":                {addr, right.File, ""},
		"a certificate of another authority":   {addr, other.File, "x509: certificate signed by unknown authority"},
		"a certificate of another server":      {redisstoretest.StartTLSServer(t, elsewhere), elsewhere.File, "x509: certificate is valid for 192.0.2.1, not 127.0.0.1"},
		"a server without TLS":                 {strings.TrimPrefix(plain, "redis://"), right.File, "Redis does not answer yet"},
		"no certificate that the system knows": {addr, os.DevNull, "x509: certificate signed by unknown authority"},
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
