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

// keySet reads the key or the set of keys of a group as a key file would be;
// nil when it is refused.
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
	// A secret of zeros is refused at start, and signs a whole group of vectors
	// about the form of tokens: those are tried with it all the same.
	var zeros jwk
	if json.Unmarshal(key, &zeros) == nil && zeros.Alg == AlgHS256 && strings.Trim(zeros.K, "A") == "" && len(zeros.K) == 43 {
		if set, err = NewKeySet(hmacKey(zeros.Kid, make([]byte, minHMACKey))); err == nil {
			return set
		}
	}
	return nil
}

// verdict tells whether we accept a vector's signature. The vectors' payloads
// are no claims and their tokens have no type, so the test is at the signature.
func (g *wycheproofGroup) verdict(set *KeySet, jws string) bool {
	if set == nil {
		return false
	}
	_, _, err := set.verifySignature(jws, "", issuedAt)
	return err == nil
}

// ours are the algorithms that we take at all. All others are refused when the
// key is read: RS256 is what ASVS 5.0 disallows, and of the rest nobody has need.
func (g *wycheproofGroup) ours() bool {
	key := string(g.Private) + string(g.Public)
	return strings.Contains(key, `"ES256"`) || strings.Contains(key, `"HS256"`) || strings.Contains(key, `"EdDSA"`)
}

func TestWycheproofJWS(t *testing.T) {
	// Where we differ from the published verdict, and why.
	exceptions := map[int]string{
		367: "byte for byte the valid token of its group, labelled invalid by mistake",
		370: "byte for byte the valid token of its group, labelled invalid by mistake",
		372: "labelled valid though it holds characters that are not base64url",
		373: "labelled valid though it holds characters that are not base64url",
	}
	agreed, foreign := 0, 0
	for _, g := range wycheproof(t, "json_web_signature_test.json") {
		set := g.keySet()
		for _, v := range g.Tests {
			got := g.verdict(set, v.JWS)
			switch {
			case !g.ours():
				foreign++
				if got {
					t.Errorf("%d (%s): accepted under a key of an algorithm that we do not take", v.ID, v.Comment)
				}
			case got == (v.Result == "valid"):
				agreed++
				if why, ok := exceptions[v.ID]; ok {
					t.Errorf("%d (%s): no longer an exception: %s", v.ID, v.Comment, why)
				}
			case exceptions[v.ID] == "":
				t.Errorf("%d (%s, %s): accepted %v, want %s", v.ID, g.Comment, v.Comment, got, v.Result)
			}
		}
	}
	t.Logf("%d verdicts as published, %d of foreign algorithms refused", agreed, foreign)
}

func TestWycheproofJWK(t *testing.T) {
	exceptions := map[int]string{
		1:  "a set may hold keys of several algorithms, or none could ever be replaced by one of another; each key verifies its own only",
		5:  "RS256 is not taken: ASVS 5.0 disallows it",
		14: "HS384 is not taken",
		15: "HS512 is not taken",
	}
	agreed := 0
	for _, g := range wycheproof(t, "json_web_key_test.json") {
		set := g.keySet()
		for _, v := range g.Tests {
			got := g.verdict(set, v.JWS)
			switch {
			case got == (v.Result == "valid"):
				agreed++
			case exceptions[v.ID] == "":
				t.Errorf("%d (%s, %s): accepted %v, want %s", v.ID, g.Comment, v.Comment, got, v.Result)
			}
		}
	}
	t.Logf("%d verdicts as published", agreed)
}
