package main

import (
	"bytes"
	"html"
	"os"
	"strings"
	"testing"
)

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDocsPage_MatchesOpenAPI(t *testing.T) {
	if !bytes.Equal(readFile(t, "../docs.html"), render(readFile(t, "../openapi.json"))) {
		t.Error("api/docs.html does not match api/openapi.json. Run: go generate ./api")
	}
}

func TestDocsPage_ShowsCurlCommands(t *testing.T) {
	page := html.UnescapeString(string(readFile(t, "../docs.html")))
	for what, want := range map[string]string{
		"a long JSON body": `curl -X POST "$BASE/v1/sessions" \
  -H 'Content-Type: application/json' \
  -d '{
  "login": "ada@example.com",
  "password": "correct horse battery staple"
}'`,
		"a short JSON body": `  -d '{"email": "ada@example.com"}'`,
		"a form": `curl -X POST "$BASE/oauth/token" \
  --data-urlencode 'grant_type=refresh_token' \
  --data-urlencode 'refresh_token=`,
		"a token and a query": `curl "$BASE/findUser?username=ada" \
  -H "Authorization: Bearer $TOKEN"`,
		"no body":          `curl "$BASE/livez"`,
		"a path parameter": `curl -X DELETE "$BASE/v1/sessions/0`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks the curl command for %s: %s", what, want)
		}
	}
}

func TestQuote_EscapesSingleQuotes(t *testing.T) {
	if got, want := quote(`it's`), `'it'\''s'`; got != want {
		t.Errorf("quote returned %s, want %s", got, want)
	}
}
