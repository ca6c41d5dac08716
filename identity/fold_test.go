package identity

import "testing"

func TestFoldEmail_HasOneFormForEachAddress(t *testing.T) {
	for _, c := range []struct{ one, other string }{
		{"info@bücher.example", "info@xn--bcher-kva.example"},
		{"info@bücher.example", " INFO@BU\u0308CHER.example\t"},
		{"a@xn--strae-oqa.example", "a@straße.example"},
		{"a@例え.example", "a@xn--r8jz45g.example"},
		{"ada@EXAMPLE.com", "ada@example.com\u00a0"},
		{"root@localhost", "ROOT@LOCALHOST"},
	} {
		if FoldEmail(c.one) != FoldEmail(c.other) {
			t.Errorf("%q is %q, but %q is %q", c.one, FoldEmail(c.one), c.other, FoldEmail(c.other))
		}
	}
	for _, c := range []struct{ one, other string }{
		{"a@straße.example", "a@strasse.example"},
		{"a@example.com", "a@example.org"},
		{"a b@example.com", "ab@example.com"},
	} {
		if FoldEmail(c.one) == FoldEmail(c.other) {
			t.Errorf("%q and %q are both %q", c.one, c.other, FoldEmail(c.one))
		}
	}
}
