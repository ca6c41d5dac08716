package redisstore

import (
	"strings"
	"testing"

	"github.com/sessiond/sessiond/session"
)

func TestKeys_MatchTableInPackageDocumentation(t *testing.T) {
	for _, prefix := range []string{"", "app:", "a b%é:"} {
		k, err := newKeys(prefix)
		if err != nil {
			t.Fatal(err)
		}
		for got, want := range map[string]string{
			k.session("ada", "s1"):      "s:{ada}:s1",
			k.revokedToken("ada", "t1"): "b:{ada}:t1",
			k.generation("ada"):         "g:{ada}",
			k.lease("ada"):              "l:{ada}",
		} {
			if got != prefix+want {
				t.Errorf("the key is %q, want %q", got, prefix+want)
			}
		}
		ref := session.Ref{Subject: "ada", SessionID: "s1", TokenID: "t1"}
		if got, want := k.check(ref), [3]string{k.generation("ada"), k.session("ada", "s1"), k.revokedToken("ada", "t1")}; got != want {
			t.Errorf("check returns the keys %q, want %q", got, want)
		}
	}
}

func TestOpen_RefusesPrefixWithBrace(t *testing.T) {
	for _, prefix := range []string{"{", "}", "{app}:", "app{}", "a}b{"} {
		if _, err := Open("redis://localhost", Options{Prefix: prefix}); err == nil || !strings.Contains(err.Error(), "brace") {
			t.Errorf("Open with the prefix %q = %v, want an error about the brace", prefix, err)
		}
	}
}
