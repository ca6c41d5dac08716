package hashing

import (
	"encoding/base64"
	"strings"
	"testing"
)

func TestParsePeppers_ReadsKeysAndRefusesInvalidFiles(t *testing.T) {
	one, two := base64.StdEncoding.EncodeToString(key('1')), base64.StdEncoding.EncodeToString(key('2'))
	got, err := ParsePeppers([]byte("# newest first\r\n\r\n  2026-b:" + two + "  \r\nold_1:" + one))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].ID != "2026-b" || string(got[0].Key) != string(key('2')) || got[1].ID != "old_1" {
		t.Errorf("got %v", got)
	}
	for _, c := range []struct{ why, file string }{
		{"an empty file", ""},
		{"only comments", "# nothing\n"},
		{"a key without an id", one},
		{"an empty id", ":" + one},
		{"the id that is reserved for no pepper", "0:" + one},
		{"an id with a character that separates parts of a stored hash", "a$b:" + one},
		{"a key that is too short", "a:" + base64.StdEncoding.EncodeToString(key('1')[1:])},
		{"a key that is not base64", "a:" + strings.Repeat("!", 44)},
		{"base64 with stray bits at its end, a second spelling of a key", "a:" + one[:len(one)-2] + "F="},
		{"two keys with the same id", "a:" + one + "\na:" + two},
	} {
		_, err := ParsePeppers([]byte(c.file))
		if err == nil {
			t.Errorf("%s: accepted", c.why)
		} else if strings.Contains(err.Error(), one[:10]) || strings.Contains(err.Error(), two[:10]) {
			t.Errorf("%s: the error quotes a key: %v", c.why, err)
		}
	}
}

func FuzzParsePeppers_ReturnsOnlyValidPeppers(f *testing.F) {
	f.Add([]byte("a:" + base64.StdEncoding.EncodeToString(key('1')) + "\n#\n"))
	f.Add([]byte("a:b:c\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		peppers, err := ParsePeppers(file)
		if err != nil {
			return
		}
		if _, err := NewHasher(MinCost, peppers); err != nil {
			t.Fatalf("ParsePeppers accepts the file, but NewHasher returns %v", err)
		}
	})
}
