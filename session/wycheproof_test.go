package session

import (
	"os"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

type wycheproofGroup struct {
	Comment string         `json:"comment"`
	Private jsontext.Value `json:"private"`
	Public  jsontext.Value `json:"public"`
	Tests   []struct {
		ID      int    `json:"tcId"`
		Comment string `json:"comment"`
		JWS     string `json:"jws"`
		Result  string `json:"result"`
	} `json:"tests"`
}

func wycheproof(t *testing.T, name string) []wycheproofGroup {
	t.Helper()
	data, err := os.ReadFile("../../shared/vectors/wycheproof/" + name)
	if err != nil {
		t.Skip("SKIPPED: ../shared/vectors/wycheproof is not here")
	}
	var file struct {
		TestGroups []wycheproofGroup `json:"testGroups"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	return file.TestGroups
}

// keySet parses the keys of a group of test vectors like a key file. It returns nil if ParseKeySet
// refuses the keys.
func (g *wycheproofGroup) keySet() *KeySet {
	key := g.Private
	if len(g.Public) > 0 {
		key = g.Public
	}
	text := string(key)
	if !strings.Contains(text, `"keys"`) {
		text = `{"keys":[` + text + `]}`
	}
	set, err := ParseKeySet([]byte(text))
	if err == nil {
		return set
	}
	// One group of test vectors about the form of tokens is signed with a secret of zeros, which
	// ParseKeySet refuses. Use the secret here anyway, so that these vectors test the form.
	var zeros jwk
	if json.Unmarshal(key, &zeros) == nil && zeros.Alg == AlgHS256 && strings.Trim(zeros.K, "A") == "" && len(zeros.K) == 43 {
		if set, err = NewKeySet(hmacKey(zeros.Kid, make([]byte, minHMACKey))); err == nil {
			return set
		}
	}
	return nil
}

// accepts reports whether verifySignature accepts the token of a test vector. The type and the
// claims are not checked, because the tokens have neither.
func (g *wycheproofGroup) accepts(set *KeySet, jws string) bool {
	if set == nil {
		return false
	}
	_, _, err := set.verifySignature(jws, "", issuedAt)
	return err == nil
}

// supported reports whether sessiond supports the algorithm of a group of test vectors. ParseKeySet
// refuses the keys of other algorithms.
func (g *wycheproofGroup) supported() bool {
	key := string(g.Private) + string(g.Public)
	return strings.Contains(key, `"ES256"`) || strings.Contains(key, `"HS256"`) || strings.Contains(key, `"EdDSA"`)
}

func TestVerifySignature_AgreesWithWycheproofSignatureVectors(t *testing.T) {
	// exceptions maps the id of a test vector to the reason why our result differs from the
	// published result.
	exceptions := map[int]string{
		367: "byte for byte the valid token of its group, labelled invalid by mistake",
		370: "byte for byte the valid token of its group, labelled invalid by mistake",
		372: "labelled valid although it contains characters that are not base64url",
		373: "labelled valid although it contains characters that are not base64url",
	}
	agreed, unsupported := 0, 0
	for _, g := range wycheproof(t, "json_web_signature_test.json") {
		set := g.keySet()
		for _, v := range g.Tests {
			got := g.accepts(set, v.JWS)
			switch {
			case !g.supported():
				unsupported++
				if got {
					t.Errorf("vector %d (%s): accepted with an unsupported algorithm", v.ID, v.Comment)
				}
			case got == (v.Result == "valid"):
				agreed++
				if why, ok := exceptions[v.ID]; ok {
					t.Errorf("vector %d (%s): the result is as published; remove the exception: %s", v.ID, v.Comment, why)
				}
			case exceptions[v.ID] == "":
				t.Errorf("%d (%s, %s): accepted %v, want %s", v.ID, g.Comment, v.Comment, got, v.Result)
			}
		}
	}
	t.Logf("%d results are as published, %d vectors with unsupported algorithms were refused", agreed, unsupported)
}

func TestVerifySignature_AgreesWithWycheproofTestVectorsOfKeys(t *testing.T) {
	exceptions := map[int]string{
		1:  "a key set may contain several algorithms, because a rotation may change the algorithm; each key verifies only its own algorithm",
		5:  "RS256 is not supported: ASVS 5.0 disallows it",
		14: "HS384 is not supported",
		15: "HS512 is not supported",
	}
	agreed := 0
	for _, g := range wycheproof(t, "json_web_key_test.json") {
		set := g.keySet()
		for _, v := range g.Tests {
			got := g.accepts(set, v.JWS)
			switch {
			case got == (v.Result == "valid"):
				agreed++
			case exceptions[v.ID] == "":
				t.Errorf("%d (%s, %s): accepted %v, want %s", v.ID, g.Comment, v.Comment, got, v.Result)
			}
		}
	}
	t.Logf("%d results as published", agreed)
}
