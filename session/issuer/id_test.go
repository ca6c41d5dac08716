package issuer

import (
	"strings"
	"testing"
	"time"
)

func TestNewTimedID_SortsByTime(t *testing.T) {
	seen := map[string]bool{}
	last := ""
	for i := range 1000 {
		id := NewTimedID(time.Unix(1_800_000_000, 0).Add(time.Duration(i) * idTick))
		if len(id) != 30 || id <= last || seen[id] {
			t.Fatalf("id %d is %q, which does not sort after %q", i, id, last)
		}
		last, seen[id] = id, true
	}
	if id := NewID(); len(id) != 22 {
		t.Errorf("an id of NewID has %d characters, want 22", len(id))
	}
}

func TestValidID_AcceptsOnlyShortURLSafeText(t *testing.T) {
	for _, id := range []string{NewID(), NewTimedID(time.Now()), "a", "-_09AZaz", strings.Repeat("a", 64)} {
		if !ValidID(id) {
			t.Errorf("%q is refused", id)
		}
	}
	for _, text := range []string{"", strings.Repeat("a", 65), "a b", "a/b", "a:b", "a{b", "é", "a\x00", "a\n"} {
		if ValidID(text) {
			t.Errorf("%q is accepted", text)
		}
	}
}
