package identity

import (
	"strings"
	"testing"
)

func TestCheckNewUsername_RefusesNamesThatLookLikeAnother(t *testing.T) {
	s := Service{ReservedNames: []string{"admin", "mailer-daemon", "Größe"}}
	for _, c := range []struct{ why, name, want string }{
		{"Latin", "anna", ""},
		{"Latin with marks, digits and symbols", "Zoë O'Neil-42 😀", ""},
		{"Cyrillic", "анна_1", ""},
		{"Greek", "Άννα", ""},
		{"Arabic", "آنا", ""},
		{"Japanese", "山田たろう・タロー1", ""},
		{"Japanese with Latin", "Tanaka田中", ""},
		{"Korean with Han and Latin", "김金Kim", ""},
		{"a name that has a reserved one in it", "administrating", ""},
		{"Cyrillic а in a Latin name", "аdmin_anna", CodeInvalid},
		{"Greek ο in a Latin name", "jοhn", CodeInvalid},
		{"Hiragana with Hangul", "たろう김", CodeInvalid},
		{"full width", "ａｄｍｉｎ_anna", CodeInvalid},
		{"mathematical letters", "𝐚𝐧𝐧𝐚", CodeInvalid},
		{"a ligature", "ﬁona", CodeInvalid},
		{"a braille blank", "visible\u2800", CodeInvalid},
		{"a blank symbol", "visible\U0001d159", CodeInvalid},
		{"a Hangul filler", "visible\u1160", CodeInvalid},
		{"reserved", "admin", CodeReserved},
		{"reserved, in capitals", "ADMIN", CodeReserved},
		{"reserved, with separators", "ad.min_", CodeReserved},
		{"reserved, without its separator", "MailerDaemon", CodeReserved},
		{"reserved, in another case folding", "GRÖSSE", CodeReserved},
		{"the longest, of many scripts", strings.Repeat("aа", 32), CodeInvalid},
	} {
		if got := code(s.checkNewUsername(c.name)); got != c.want {
			t.Errorf("%s, %q: %q, want %q", c.why, c.name, got, c.want)
		}
	}
}

func TestCheckNewEmail_RefusesDomainsThatAreNotListed(t *testing.T) {
	s := Service{Domains: []string{"Example.com", "bücher.example"}}
	for address, want := range map[string]string{
		"a@example.com": "", "a@EXAMPLE.COM": "", "a@xn--bcher-kva.example": "", "a@bücher.example": "",
		"a@sub.example.com": CodeDomain, "a@example.com.evil.example": CodeDomain, "a@notexample.com": CodeDomain,
		"a@evil.example@example.com": CodeInvalid, "": CodeRequired,
	} {
		if got := code(s.checkNewEmail(address)); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
	if got := code((&Service{}).checkNewEmail("a@anything.example")); got != "" {
		t.Errorf("without a list: %q", got)
	}
}
