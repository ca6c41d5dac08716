package httpsuite

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The test verifies access tokens as a service in JavaScript does: with the library jose and the
// published keys of sessiond. SESSIOND_TEST_JOSE is a directory in which npm has installed jose.
func TestAccessToken_IsVerifiedByNodeLibraryJose(t *testing.T) {
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
			t.Errorf("%s: jose refuses a valid token: %v\n%s", alg, err, sub)
		}
		tampered := p.token[:len(p.token)-6] + "AAAAAA"
		if _, err := verify(tampered); err == nil {
			t.Errorf("%s: jose accepts a tampered token", alg)
		}
	}
}
