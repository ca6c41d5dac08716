package httpsuite

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A service in another language verifies our tokens with the library that its
// people use, and our published keys. SESSIOND_TEST_JOSE names a directory in
// which npm has installed jose.
func TestNodeVerifiesOurTokens(t *testing.T) {
	dir := os.Getenv("SESSIOND_TEST_JOSE")
	if dir == "" {
		t.Skip("NOT TESTED with Node's jose: SESSIOND_TEST_JOSE is not set")
	}
	script := filepath.Join(dir, "verify.mjs")
	if err := os.WriteFile(script, []byte(`
import { createRemoteJWKSet, jwtVerify } from "jose";
const [base, issuer, alg, token] = process.argv.slice(2);
const keys = createRemoteJWKSet(new URL(base + "/.well-known/jwks.json"));
const { payload } = await jwtVerify(token, keys, { issuer, audience: issuer, typ: "at+jwt", algorithms: [alg] });
console.log(payload.sub);
`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, alg := range []string{"EdDSA", "ES256"} {
		data := t.TempDir()
		newKeys(t, filepath.Join(data, "keys.json"), alg)
		s := startDev(t, data, "ISSUER=https://id.example")
		p := s.register(t)
		verify := func(token string) (string, error) {
			out, err := exec.Command("node", script, s.base, "https://id.example", alg, token).CombinedOutput()
			return strings.TrimSpace(string(out)), err
		}
		if sub, err := verify(p.token); err != nil || sub != claimsOf(t, p.token)["sub"] {
			t.Errorf("%s: Node's jose refuses our token: %v\n%s", alg, err, sub)
		}
		tampered := p.token[:len(p.token)-6] + "AAAAAA"
		if _, err := verify(tampered); err == nil {
			t.Errorf("%s: Node's jose accepts a tampered token: the test proves nothing", alg)
		}
	}
}
