package identity

import (
	"errors"
	"net/mail"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func code(p *problem) string {
	if p == nil {
		return ""
	}
	return p.code
}

func TestCheckUsername_AcceptsOnlyVisibleCharacters_ASVS_V2_2_1(t *testing.T) {
	for _, c := range []struct{ why, name, want string }{
		{"plain", "alice", ""},
		{"the shortest", "bob", ""},
		{"3 characters that are 9 bytes", "小林樹", ""},
		{"the longest", strings.Repeat("😀", 64), ""},
		{"punctuation and inner space", "Dr. O'Neil-Smith <3", ""},
		{"a combining mark", "zoe\u0308", ""},
		{"empty", "", CodeRequired},
		{"short", "al", CodeTooShort},
		{"long", strings.Repeat("a", 65), CodeTooLong},
		{"very long", strings.Repeat("a", 1<<20), CodeTooLong},
		{"an @, as in an email", "a@b", CodeInvalid},
		{"line break", "al\nice", CodeInvalid},
		{"carriage return", "alice\r", CodeInvalid},
		{"NUL", "ali\x00ce", CodeInvalid},
		{"delete", "alice\x7f", CodeInvalid},
		{"C1 control", "ali\u0085ce", CodeInvalid},
		{"not UTF-8", "ali\xffce", CodeInvalid},
		{"a surrogate", "ali\xed\xa0\x80ce", CodeInvalid},
		{"leading space", " alice", CodeInvalid},
		{"trailing space", "alice ", CodeInvalid},
		{"spaces only", "    ", CodeInvalid},
		{"no-break space", "ali\u00a0ce", CodeInvalid},
		{"ideographic space", "ali\u3000ce", CodeInvalid},
		{"right-to-left override", "ali\u202ece", CodeInvalid},
		{"isolate", "ali\u2066ce", CodeInvalid},
		{"zero-width space", "ali\u200bce", CodeInvalid},
		{"zero-width joiner", "ali\u200dce", CodeInvalid},
		{"byte order mark", "\ufeffalice", CodeInvalid},
		{"soft hyphen", "ali\u00adce", CodeInvalid},
		{"variation selector", "ali\ufe0fce", CodeInvalid},
		{"tag", "ali\U000e0041ce", CodeInvalid},
		{"a letter without a shape", "ali\u3164ce", CodeInvalid},
		{"grapheme joiner", "ali\u034fce", CodeInvalid},
		{"line separator", "ali\u2028ce", CodeInvalid},
		{"private use", "ali\ue000ce", CodeInvalid},
		{"not a character", "ali\uffffce", CodeInvalid},
	} {
		if got := code(checkUsername(c.name)); got != c.want {
			t.Errorf("%s, %.40q: %q, want %q", c.why, c.name, got, c.want)
		}
	}
}

func TestCheckText_AcceptsUpTo200CharactersOnOneLine_ASVS_V2_2_1(t *testing.T) {
	for _, c := range []struct{ why, text, want string }{
		{"empty", "", ""},
		{"the longest", strings.Repeat("é", 200), ""},
		{"a name that needs a joiner", "می\u200cخواهم", ""},
		{"long", strings.Repeat("é", 201), CodeTooLong},
		{"tab", "a\tb", CodeInvalid},
		{"NUL", "a\x00b", CodeInvalid},
		{"line break", "a\nb", CodeInvalid},
		{"paragraph separator", "a\u2029b", CodeInvalid},
		{"not UTF-8", "a\x80b", CodeInvalid},
	} {
		if got := code(checkText(c.text)); got != c.want {
			t.Errorf("%s, %.40q: %q, want %q", c.why, c.text, got, c.want)
		}
	}
}

func TestCheckEmail_AcceptsOnlyOneAddressWithoutName_ASVS_V1_3_11_V2_2_1(t *testing.T) {
	for _, c := range []struct{ why, email, want string }{
		{"plain", "alice@example.com", ""},
		{"subaddress", "alice+news@mail.example.co.uk", ""},
		{"every special character", "!#$%&'*+-/=?^_`{|}~@example.com", ""},
		{"a host without a domain", "root@localhost", ""},
		{"not ASCII", "jörg@exämple.de", ""},
		{"another script", "用户@例子.广告", ""},
		{"punycode", "a@xn--exmple-cua.de", ""},
		{"digits at the front", "1@1.example", ""},
		{"200 characters", strings.Repeat("a", 64) + "@" + strings.Repeat("b", 63) + "." + strings.Repeat("c", 63) + "." + strings.Repeat("d", 7), ""},
		{"201 characters", strings.Repeat("a", 64) + "@" + strings.Repeat("b", 63) + "." + strings.Repeat("c", 63) + "." + strings.Repeat("d", 8), CodeTooLong},
		{"empty", "", CodeRequired},
		{"no @", "alice", CodeInvalid},
		{"no local part", "@example.com", CodeInvalid},
		{"no domain", "alice@", CodeInvalid},
		{"two @", "alice@b@example.com", CodeInvalid},
		{"a list", "a@example.com,b@example.com", CodeInvalid},
		{"with a name", "Alice <alice@example.com>", CodeInvalid},
		{"quoted", `"a b"@example.com`, CodeInvalid},
		{"comment", "alice(me)@example.com", CodeInvalid},
		{"a second header", "a@example.com\r\nBcc: b@example.com", CodeInvalid},
		{"line break in the local part", "a\n@example.com", CodeInvalid},
		{"NUL", "a\x00@example.com", CodeInvalid},
		{"space", "a b@example.com", CodeInvalid},
		{"trailing space", "a@example.com ", CodeInvalid},
		{"two dots", "a..b@example.com", CodeInvalid},
		{"leading dot", ".a@example.com", CodeInvalid},
		{"trailing dot", "a@example.com.", CodeInvalid},
		{"empty label", "a@example..com", CodeInvalid},
		{"leading hyphen", "a@-example.com", CodeInvalid},
		{"trailing hyphen", "a@example-.com", CodeInvalid},
		{"underscore in the domain", "a@ex_ample.com", CodeInvalid},
		{"IPv4", "a@127.0.0.1", CodeInvalid},
		{"literal", "a@[127.0.0.1]", CodeInvalid},
		{"long local part", strings.Repeat("a", 65) + "@example.com", CodeInvalid},
		{"long label", "a@" + strings.Repeat("b", 64) + ".com", CodeInvalid},
		{"not UTF-8", "a\xff@example.com", CodeInvalid},
		{"bidirectional override", "a\u202e@example.com", CodeInvalid},
		{"zero-width space in the domain", "a@exam\u200bple.com", CodeInvalid},
		{"an ideographic full stop", "a@example。com", CodeInvalid},
	} {
		if got := code(checkEmail(c.email)); got != c.want {
			t.Errorf("%s, %.60q: %q, want %q", c.why, c.email, got, c.want)
		}
	}
}

func TestCheckEmail_TakesLittleTimeForHugeInput(t *testing.T) {
	begin := time.Now()
	for _, s := range []string{"a", "a.", "a@", "@", ".", "\"", "ä"} {
		if checkEmail(strings.Repeat(s, 1<<20)) == nil {
			t.Errorf("accepts a million %q", s)
		}
	}
	if took := time.Since(begin); took > time.Minute { // it would take hours if the time grew with the square of the length
		t.Errorf("took %v, want at most a minute", took)
	}
}

func FuzzCheckEmail_AcceptsOnlyWhatMailServersParse(f *testing.F) {
	for _, s := range []string{"a@b", "a.b+c@d-e.f", "jörg@exämple.de", "a@b\r\nX: y", `"a"@b`, "a@[::1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if checkEmail(s) != nil {
			return
		}
		// A mail server must read each text that checkEmail accepts as the same email address.
		a, err := mail.ParseAddress(s)
		if err != nil || a.Address != s || a.Name != "" {
			t.Fatalf("%q is parsed as %v, %v", s, a, err)
		}
		if len(s) > 254 || !utf8.ValidString(s) || strings.Count(s, "@") != 1 {
			t.Fatalf("accepts %q", s)
		}
	})
}

func TestFieldErrors_ListsEveryInvalidField(t *testing.T) {
	var errs FieldErrors
	if errs.err() != nil {
		t.Error("an empty FieldErrors is a non-nil error")
	}
	errs.check("email", &problem{CodeRequired, "is required"})
	errs.check("username", nil)
	errs.check("password", &problem{CodeTooShort, "is short"})
	err := errs.err()
	var got FieldErrors
	if !errors.As(err, &got) || len(got) != 2 || got[0].Field != "email" || got[1].Code != CodeTooShort {
		t.Errorf("got %v", err)
	}
	if want := "invalid fields: email: required, password: too_short"; err.Error() != want {
		t.Errorf("got %q", err)
	}
}
