package httpsuite

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// forger signs tokens with the service's own signing key. If the service refuses such a token, the
// cause is what the test changed in the token, and not its signature.
type forger struct {
	kid string
	key *ecdsa.PrivateKey
	jwk map[string]any // the public key as a JSON Web Key
}

// readForger reads the signing key of a key file, and returns a forger that signs tokens with this
// key.
func readForger(t *testing.T, path string) forger {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(data, &set); err != nil {
		t.Fatal(err)
	}
	d, err := base64.RawURLEncoding.DecodeString(set.Keys[0]["d"].(string))
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	if err != nil {
		t.Fatal(err)
	}
	public := maps.Clone(set.Keys[0])
	delete(public, "d")
	return forger{kid: set.Keys[0]["kid"].(string), key: key, jwk: public}
}

// sign returns a signed token with these claims. edit maps members of the token's header to new
// values, or to nil for a member that the token must not have.
func (f forger) sign(t *testing.T, method jwt.SigningMethod, key any, claims map[string]any, edit map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, jwt.MapClaims(claims))
	token.Header["kid"], token.Header["typ"] = f.kid, "at+jwt"
	for name, value := range edit {
		if value == nil {
			delete(token.Header, name)
		} else {
			token.Header[name] = value
		}
	}
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// with returns a copy of the claims in which one claim has another value. The value nil removes it.
func with(claims map[string]any, name string, value any) map[string]any {
	out := maps.Clone(claims)
	if value == nil {
		delete(out, name)
	} else {
		out[name] = value
	}
	return out
}

// Every forged token must get a 401. A token whose header names a URL must not make the service
// fetch that URL.
func TestForgedToken_IsRefusedWithoutNetworkAccess_ASVS_V1_3_6_V2_2_3_V7_2_1_V9_1_1_V9_1_2_V9_1_3_V9_2_2_V9_2_3_V9_2_4_V11_6_1_V13_2_4(t *testing.T) {
	data := t.TempDir()
	newKeys(t, filepath.Join(data, "keys.json"), "ES256")
	s := startDev(t, data)
	f := readForger(t, filepath.Join(data, "keys.json"))
	p := s.register(t)
	claims := claimsOf(t, p.token)

	var visits atomic.Int32
	canary, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := canary.Accept()
			if err != nil {
				return
			}
			visits.Add(1)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = canary.Close(); <-done })
	bait := "http://" + canary.Addr().String() + "/keys"

	es := jwt.SigningMethodES256
	good := func(edit map[string]any) string { return f.sign(t, es, f.key, claims, edit) }
	if !s.alive(t, good(nil)) {
		t.Fatal("the service refuses an unchanged token that the forger signed, so this test would prove nothing")
	}
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	publicJWK, _ := json.Marshal(f.jwk)
	parts := strings.Split(p.token, ".")
	deep := base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat(`{"a":`, 800) + "1" + strings.Repeat("}", 800)))
	for name, token := range map[string]string{
		"alg none":                   f.sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims, nil),
		"HS256 with the public key":  f.sign(t, jwt.SigningMethodHS256, publicJWK, claims, nil),
		"RS256":                      f.sign(t, jwt.SigningMethodRS256, rsaKey, claims, nil),
		"another key":                f.sign(t, es, stranger, claims, nil),
		"another key in the header":  f.sign(t, es, stranger, claims, map[string]any{"jwk": f.jwk}),
		"jku":                        good(map[string]any{"jku": bait}),
		"x5u":                        good(map[string]any{"x5u": bait}),
		"x5c":                        good(map[string]any{"x5c": []string{"MIIB"}}),
		"kid as a URL":               good(map[string]any{"kid": bait}),
		"kid as a path":              good(map[string]any{"kid": "../../../../dev/null"}),
		"kid as SQL":                 good(map[string]any{"kid": "' OR '1'='1"}),
		"no kid":                     good(map[string]any{"kid": nil}),
		"crit":                       good(map[string]any{"crit": []string{"exp"}}),
		"b64":                        good(map[string]any{"b64": false}),
		"zip":                        good(map[string]any{"zip": "DEF"}),
		"another typ":                good(map[string]any{"typ": "JWT"}),
		"no typ":                     good(map[string]any{"typ": nil}),
		"deep JSON":                  parts[0] + "." + deep + "." + parts[2],
		"12 KB":                      p.token + strings.Repeat("A", 12<<10),
		"a refresh token":            p.refresh,
		"another issuer":             f.sign(t, es, f.key, with(claims, "iss", "https://evil.example"), nil),
		"another audience":           f.sign(t, es, f.key, with(claims, "aud", "another"), nil),
		"two other audiences":        f.sign(t, es, f.key, with(claims, "aud", []string{"another", "a third"}), nil),
		"no audience in a list":      f.sign(t, es, f.key, with(claims, "aud", []string{}), nil),
		"no expiry":                  f.sign(t, es, f.key, with(claims, "exp", nil), nil),
		"expiry as a string":         f.sign(t, es, f.key, with(claims, "exp", "4102444800"), nil),
		"expired":                    f.sign(t, es, f.key, with(claims, "exp", time.Now().Add(-time.Minute).Unix()), nil),
		"unknown session":            f.sign(t, es, f.key, with(claims, "sid", "nosuchsession"), nil),
		"session of another subject": f.sign(t, es, f.key, with(claims, "sub", "AAAAAAAAAAAAAAAAAAAAAA"), nil),
		"sid with a hash tag":        f.sign(t, es, f.key, with(claims, "sid", "}:{x"), nil),
		"jti as a number":            f.sign(t, es, f.key, with(claims, "jti", 7), nil),
	} {
		a := s.call(t, "GET", "/v1/users/me", bearer(token)).patient(t)
		if a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), `error="invalid_token"`) {
			t.Errorf("%s: status %d, challenge %q, want 401 with invalid_token", name, a.status, a.header.Get("WWW-Authenticate"))
		}
	}
	if n := visits.Load(); n > 0 {
		t.Errorf("the service made %d connections to a URL in the header of a token, want none", n)
	}
	if !s.alive(t, p.token) {
		t.Error("the valid token is refused")
	}

	// An access token can be sent in several forms, such as with padding or with the other valid
	// ECDSA signature. After the revocation of the token, the service must refuse every form.
	other := s.login(t, p)
	s.call(t, "POST", "/oauth/revoke", formBody("token", other)).want(t, 200)
	sig, err := base64.RawURLEncoding.DecodeString(other[strings.LastIndexByte(other, '.')+1:])
	if err != nil {
		t.Fatal(err)
	}
	order := elliptic.P256().Params().N
	mirrored := new(big.Int).Sub(order, new(big.Int).SetBytes(sig[32:])).FillBytes(make([]byte, 32))
	twin := other[:strings.LastIndexByte(other, '.')+1] + base64.RawURLEncoding.EncodeToString(append(sig[:32:32], mirrored...))
	for name, spelling := range map[string]string{
		"the token itself": "Bearer " + other, "two spaces": "Bearer  " + other, "another case": "bEaReR " + other,
		"the other valid signature": "Bearer " + twin, "padding": "Bearer " + other + "=", "a tab": "Bearer\t" + other,
	} {
		if a := s.call(t, "GET", "/v1/users/me", header("Authorization", spelling)).patient(t); a.status != 401 {
			t.Errorf("a revoked token with %s: status %d, want 401", name, a.status)
		}
	}
}
