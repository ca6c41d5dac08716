package session

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
)

var issuedAt = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func mustKeys(t testing.TB, algs ...string) *KeySet {
	t.Helper()
	var keys []Key
	for _, alg := range algs {
		k, err := GenerateKey(alg)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	set, err := NewKeySet(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func testClaims() *Claims {
	return &Claims{
		Issuer: "https://id.example", Audience: []string{"https://api.example"}, Subject: rand.Text(), SessionID: rand.Text(), TokenID: rand.Text(),
		ClientID: "sessiond", Username: "ada", AMR: []string{"pwd"},
		IssuedAt: issuedAt, ExpiresAt: issuedAt.Add(time.Hour), AuthTime: issuedAt,
	}
}

func mustSign(t testing.TB, set *KeySet, c *Claims) string {
	t.Helper()
	token, err := set.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (s *KeySet) acceptClaims(token, issuer, audience string, now time.Time) (Claims, error) {
	t, err := s.accept(token, issuer, audience, now)
	if err != nil {
		return Claims{}, err
	}
	return t.claims, nil
}

func TestSign_KeepsAllClaims(t *testing.T) {
	for _, alg := range []string{AlgEdDSA, AlgES256, AlgHS256} {
		t.Run(alg, func(t *testing.T) {
			set, want := mustKeys(t, alg), testClaims()
			token := mustSign(t, set, want)
			got, err := set.acceptClaims(token, want.Issuer, want.Audience[0], issuedAt)
			if err != nil {
				t.Fatal(err)
			}
			if got.Subject != want.Subject || got.SessionID != want.SessionID || got.TokenID != want.TokenID ||
				got.Username != want.Username || !got.ExpiresAt.Equal(want.ExpiresAt) || !got.AuthTime.Equal(want.AuthTime) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if len(token) > 1024 {
				t.Errorf("the token has %d bytes, want less than 1 KB for proxies", len(token))
			}
		})
	}
}

// Other programs must be able to verify sessiond's tokens with only the published JWKS. The library
// go-jose stands for them.
func TestSign_TokenIsAcceptedByGoJose(t *testing.T) {
	for _, alg := range []string{AlgEdDSA, AlgES256} {
		set := mustKeys(t, alg)
		data, err := set.PublicJSON(issuedAt)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), `"d"`) {
			t.Fatalf("%s: the public key set has a private member", alg)
		}
		var theirs jose.JSONWebKeySet
		if err := json.Unmarshal(data, &theirs); err != nil {
			t.Fatal(err)
		}
		jws, err := jose.ParseSignedCompact(mustSign(t, set, testClaims()), []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := jws.Verify(theirs.Keys[0].Key); err != nil {
			t.Errorf("%s: go-jose refuses the token: %v", alg, err)
		}
	}
}

func TestAccept_AllowsLeewayAfterExpiry_ASVS_V9_2_1(t *testing.T) {
	set, c := mustKeys(t, AlgEdDSA), testClaims()
	token := mustSign(t, set, c)
	for after, ok := range map[time.Duration]bool{
		-time.Second: true, 0: true, Leeway - time.Second: true, Leeway: false, Leeway + time.Second: false,
	} {
		_, err := set.acceptClaims(token, c.Issuer, c.Audience[0], c.ExpiresAt.Add(after))
		if (err == nil) != ok {
			t.Errorf("%v after exp: got error %v, want accepted: %t", after, err, ok)
		}
	}
}

// forge signs any header and payload with the set's key, so that a forged token has no other fault
// than the one under test.
func forge(t *testing.T, set *KeySet, header, payload string) string {
	t.Helper()
	b64 := base64.RawURLEncoding
	signing := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload))
	sig, err := set.signer.method.Sign(signing, set.signer.private)
	if err != nil {
		t.Fatal(err)
	}
	return signing + "." + b64.EncodeToString(sig)
}

func TestAccept_RefusesForgedTokens_ASVS_V9_1_1_V9_1_2_V9_1_3_V9_2_1_V9_2_2_V9_2_3_V10_3_1_V15_3_5(t *testing.T) {
	set, c := mustKeys(t, AlgEdDSA), testClaims()
	kid := set.signer.ID
	good := mustSign(t, set, c)
	parts := strings.Split(good, ".")
	payload, _ := base64.RawURLEncoding.DecodeString(parts[1])
	header := `{"alg":"EdDSA","kid":"` + kid + `","typ":"at+jwt"}`
	edit := func(old, with string) string {
		edited := strings.Replace(string(payload), old, with, 1)
		if edited == string(payload) {
			t.Fatalf("the payload does not contain %s", old)
		}
		return forge(t, set, header, edited)
	}
	if _, err := set.acceptClaims(forge(t, set, header, string(payload)), c.Issuer, c.Audience[0], issuedAt); err != nil {
		t.Fatalf("the unchanged token is refused, so that the other cases prove nothing: %v", err)
	}
	unsigned := func(h string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(h)) + "." + parts[1] + "."
	}
	public, _ := set.PublicJSON(issuedAt)
	hs, _ := NewKeySet(hmacKey(kid, public)) // an HS256 key whose secret is the published key set
	for name, token := range map[string]string{
		"empty":                       "",
		"two parts":                   parts[0] + "." + parts[1],
		"four parts":                  good + ".x",
		"alg none":                    unsigned(`{"alg":"none","kid":"` + kid + `","typ":"at+jwt"}`),
		"alg nOnE":                    unsigned(`{"alg":"nOnE","kid":"` + kid + `","typ":"at+jwt"}`),
		"alg as an array":             unsigned(`{"alg":["EdDSA"],"kid":"` + kid + `","typ":"at+jwt"}`),
		"HS256 with the public key":   mustSign(t, hs, c),
		"alg of another key":          forge(t, set, `{"alg":"ES256","kid":"`+kid+`","typ":"at+jwt"}`, string(payload)),
		"typ JWT":                     forge(t, set, `{"alg":"EdDSA","kid":"`+kid+`","typ":"JWT"}`, string(payload)),
		"no typ":                      forge(t, set, `{"alg":"EdDSA","kid":"`+kid+`"}`, string(payload)),
		"no kid":                      forge(t, set, `{"alg":"EdDSA","typ":"at+jwt"}`, string(payload)),
		"unknown kid":                 forge(t, set, `{"alg":"EdDSA","kid":"../../dev/null","typ":"at+jwt"}`, string(payload)),
		"jku":                         forge(t, set, `{"alg":"EdDSA","kid":"`+kid+`","typ":"at+jwt","jku":"http://127.0.0.1:1/"}`, string(payload)),
		"jwk":                         forge(t, set, `{"alg":"EdDSA","kid":"`+kid+`","typ":"at+jwt","jwk":{}}`, string(payload)),
		"x5u":                         forge(t, set, `{"alg":"EdDSA","kid":"`+kid+`","typ":"at+jwt","x5u":"http://127.0.0.1:1/"}`, string(payload)),
		"crit":                        forge(t, set, `{"alg":"EdDSA","kid":"`+kid+`","typ":"at+jwt","crit":["exp"]}`, string(payload)),
		"b64":                         forge(t, set, `{"alg":"EdDSA","kid":"`+kid+`","typ":"at+jwt","b64":false}`, string(payload)),
		"zip":                         forge(t, set, `{"alg":"EdDSA","kid":"`+kid+`","typ":"at+jwt","zip":"DEF"}`, string(payload)),
		"header member twice":         forge(t, set, `{"alg":"EdDSA","alg":"EdDSA","kid":"`+kid+`","typ":"at+jwt"}`, string(payload)),
		"another issuer":              edit(`"iss":"https://id.example"`, `"iss":"https://id.example.evil"`),
		"audience in capitals":        edit(`"aud":"https://api.example"`, `"aud":"https://API.example"`),
		"two other audiences":         edit(`"aud":"https://api.example"`, `"aud":["x","https://api.example.evil"]`),
		"no audience":                 edit(`"aud":"https://api.example"`, `"aud":[]`),
		"audience null":               edit(`"aud":"https://api.example"`, `"aud":null`),
		"audience with a number":      edit(`"aud":"https://api.example"`, `"aud":["https://api.example",1]`),
		"sub twice":                   edit(`"sub":`, `"sub":"x","sub":`),
		"no sub":                      edit(`"sub":`, `"Sub":`),
		"no sid":                      edit(`"sid":`, `"sidd":`),
		"jti as a number":             edit(`"jti":"`+c.TokenID+`"`, `"jti":7`),
		"no exp":                      edit(`"exp":`, `"expp":`),
		"exp as a string":             edit(`"exp":1777640400`, `"exp":"1777640400"`),
		"exp as a float":              edit(`"exp":1777640400`, `"exp":1777640400.5`),
		"exp out of range":            edit(`"exp":1777640400`, `"exp":1e20`),
		"not valid yet":               edit(`"iat":`, `"nbf":1777640400,"iat":`),
		"payload is not JSON":         forge(t, set, header, "{"),
		"payload is nested deeply":    forge(t, set, header, strings.Repeat("[", 1500)),
		"data after the payload":      forge(t, set, header, string(payload)+"{}"),
		"payload with invalid UTF-8":  edit(`"username":"ada"`, "\"username\":\"\xff\""),
		"signature of another key":    mustSign(t, mustKeys(t, AlgEdDSA), c),
		"1 MB":                        good + strings.Repeat("A", 1<<20),
		"padding after the signature": good + "=",
		"line break in the signature": good[:len(good)-4] + "\n" + good[len(good)-4:],
		"space before the token":      " " + good,
		"unused bits are set":         good[:len(good)-1] + string(good[len(good)-1]+1),
	} {
		if _, err := set.acceptClaims(token, c.Issuer, c.Audience[0], issuedAt); !errors.Is(err, ErrInvalidToken) {
			t.Errorf("%s: got %v, want ErrInvalidToken", name, err)
		}
	}
}

// No file of the JSON test suite may be accepted as a payload or make the parser panic.
func TestAccept_RefusesPayloadsOfJSONTestSuite(t *testing.T) {
	files, _ := filepath.Glob("../../shared/vectors/json_test_suite/test_parsing/*.json")
	if len(files) == 0 {
		t.Skip("SKIPPED: ../shared/vectors/json_test_suite is not here")
	}
	set := mustKeys(t, AlgEdDSA)
	header := `{"alg":"EdDSA","kid":"` + set.signer.ID + `","typ":"at+jwt"}`
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// Even the valid JSON files of the suite are refused, because none of them contains the
		// claims of a token.
		if _, err := set.acceptClaims(forge(t, set, header, string(data)), "i", "a", issuedAt); !errors.Is(err, ErrInvalidToken) {
			t.Errorf("%s: got %v, want ErrInvalidToken", filepath.Base(file), err)
		}
	}
}

func TestParseKeySet_RefusesBadKeySets_ASVS_V11_2_3_V11_4_3_V11_6_1(t *testing.T) {
	for _, alg := range []string{AlgEdDSA, AlgES256, AlgHS256} {
		set := mustKeys(t, alg)
		data, err := set.PrivateJSON()
		if err != nil {
			t.Fatal(err)
		}
		read, err := ParseKeySet(data)
		if err != nil {
			t.Fatalf("%s: %v", alg, err)
		}
		if _, _, err := read.verifySignature(mustSign(t, set, testClaims()), tokenType, issuedAt); err != nil {
			t.Errorf("%s: after writing and parsing the key, its token is refused: %v", alg, err)
		}
	}
	other := mustKeys(t, AlgEdDSA)
	otherJSON, _ := other.PublicJSON(issuedAt)
	var otherSet jwkSet
	if err := json.Unmarshal(otherJSON, &otherSet); err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 32)
	for i := range random {
		random[i] = byte(200 + i) // not random, but neither readable text nor repeated bytes
	}
	secret := base64.RawURLEncoding.EncodeToString(random)
	if _, err := ParseKeySet([]byte(`{"keys":[{"kty":"oct","kid":"1","alg":"HS256","k":"` + secret + `"}]}`)); err != nil {
		t.Fatalf("a key set with a good secret is refused, so that the other cases prove nothing: %v", err)
	}
	for name, text := range map[string]string{
		"not JSON":            `{`,
		"no key":              `{"keys":[]}`,
		"no kid":              `{"keys":[{"kty":"oct","alg":"HS256","k":"` + secret + `"}]}`,
		"HS256 with 31 bytes": `{"keys":[{"kty":"oct","kid":"1","alg":"HS256","k":"` + base64.RawURLEncoding.EncodeToString(random[:31]) + `"}]}`,
		"HS256 with zeros":    `{"keys":[{"kty":"oct","kid":"1","alg":"HS256","k":"` + strings.Repeat("A", 43) + `"}]}`,
		"two active keys": `{"keys":[{"kty":"oct","kid":"1","alg":"HS256","status":"active","k":"` + secret +
			`"},{"kty":"oct","kid":"2","alg":"HS256","status":"active","k":"` + secret + `"}]}`,
		"an unknown status":        `{"keys":[{"kty":"oct","kid":"1","alg":"HS256","status":"asleep","k":"` + secret + `"}]}`,
		"retired without a time":   `{"keys":[{"kty":"oct","kid":"1","alg":"HS256","status":"retired","k":"` + secret + `"}]}`,
		"RS256":                    `{"keys":[{"kty":"RSA","kid":"1","alg":"RS256","n":"AQAB","e":"AQAB"}]}`,
		"a key for encryption":     `{"keys":[{"kty":"oct","kid":"1","alg":"HS256","use":"enc","k":"` + secret + `"}]}`,
		"a point off the curve":    `{"keys":[{"kty":"EC","crv":"P-256","kid":"1","alg":"ES256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}]}`,
		"x of another private key": `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","alg":"EdDSA","x":"` + otherSet.Keys[0].X + `","d":"` + strings.Repeat("A", 43) + `"}]}`,
		"kid twice": `{"keys":[{"kty":"oct","kid":"1","alg":"HS256","k":"` + secret +
			`"},{"kty":"oct","kid":"1","alg":"HS256","k":"` + secret + `"}]}`,
	} {
		if _, err := ParseKeySet([]byte(text)); err == nil {
			t.Errorf("%s: the key set was accepted", name)
		}
	}
}

func FuzzVerifySignature_RefusesForgedPayload(f *testing.F) {
	set := mustKeys(f, AlgEdDSA)
	f.Add(mustSign(f, set, testClaims()))
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		if payload, _, err := set.verifySignature(token, tokenType, issuedAt); err == nil && !bytes.Contains(payload, []byte("https://id.example")) {
			t.Errorf("accepted a token with a forged payload: %q", token)
		}
	})
}

// A secret that was published is refused even if it has enough bytes.
func TestCheckSecret_RefusesPublishedSecrets(t *testing.T) {
	data, err := os.ReadFile("../../shared/vectors/weak_keys/jwt.secrets.list")
	if err != nil {
		t.Skip("SKIPPED: ../shared/vectors/weak_keys is not here")
	}
	long := 0
	for secret := range strings.SplitSeq(string(data), "\n") {
		if len(secret) >= minHMACKey {
			long++
		}
		if checkSecret([]byte(secret)) == nil {
			t.Errorf("the published secret %q was accepted", secret)
		}
	}
	if long < 1000 {
		t.Errorf("only %d secrets of the list have enough bytes; the others test only the size", long)
	}
}

func TestRetiredKey_VerifiesTokensUntilLastOneExpires(t *testing.T) {
	old, c := mustKeys(t, AlgEdDSA), testClaims()
	token := mustSign(t, old, c)
	retired := old.Keys()[0]
	retired.Status, retired.RetiredAt = KeyRetired, issuedAt
	next, err := GenerateKey(AlgES256)
	if err != nil {
		t.Fatal(err)
	}
	next.Status = KeyActive
	set, err := NewKeySet(retired, next)
	if err != nil {
		t.Fatal(err)
	}
	if set.signer.ID != next.ID {
		t.Error("a set with only a retired key can sign")
	}
	for after, ok := range map[time.Duration]bool{0: true, MaxAccessTTL + Leeway - time.Second: true, MaxAccessTTL + Leeway: false} {
		now := issuedAt.Add(after)
		if _, _, err := set.verifySignature(token, tokenType, now); (err == nil) != ok {
			t.Errorf("%v after the retirement the key verifies: %t, want %t", after, err == nil, ok)
		}
		public, err := set.PublicJSON(now)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(public), retired.ID) != ok {
			t.Errorf("%v after the retirement the key is published: %t, want %t", after, !ok, ok)
		}
	}
}

// A thief has a key that was retired, and signs tokens with it.
func TestAccept_RefusesTokensThatTheServiceNeverIssues(t *testing.T) {
	for name, c := range map[string]struct {
		issued, life time.Duration // issued: after the retirement
		ok           bool
	}{
		"issued by a replica that has not read the file yet": {retireGrace, time.Hour, true},
		"issued after the retirement":                        {retireGrace + time.Second, time.Hour, false},
		"as long as a token may live":                        {0, MaxAccessTTL, true},
		"longer than a token may live":                       {0, MaxAccessTTL + time.Second, false},
	} {
		set, claims := mustKeys(t, AlgEdDSA), testClaims()
		claims.IssuedAt = issuedAt.Add(c.issued)
		claims.ExpiresAt = claims.IssuedAt.Add(c.life)
		token := mustSign(t, set, claims)
		retired := set.Keys()[0]
		retired.Status, retired.RetiredAt = KeyRetired, issuedAt
		set, err := NewKeySet(retired)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := set.accept(token, claims.Issuer, claims.Audience[0], claims.IssuedAt); (err == nil) != c.ok {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
