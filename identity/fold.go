package identity

import (
	"strings"

	"golang.org/x/net/idna"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Fold returns the form in which names are compared: in Unicode case folding and NFC.
func Fold(s string) string {
	return norm.NFC.String(cases.Fold().String(norm.NFC.String(s)))
}

// FoldEmail returns the form in which email addresses are compared: without outer white space, the local part
// as in [Fold], and the domain as IDNA maps it (UTS 46). One domain thus has one form, whether it is written
// with its own letters or in ASCII (xn--), and straße.example is not strasse.example.
func FoldEmail(address string) string {
	local, domain, found := cutEmail(address)
	if !found {
		return Fold(local)
	}
	if mapped, err := domains.ToUnicode(domain); err == nil {
		return Fold(local) + "@" + mapped
	}
	return Fold(local) + "@" + Fold(domain)
}

// cutEmail returns the parts of an address without outer white space.
func cutEmail(address string) (local, domain string, found bool) {
	address = strings.TrimSpace(address)
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return address, "", false
	}
	return address[:i], address[i+1:], true
}

var domains = idna.New(idna.MapForLookup(), idna.Transitional(false))

// foldLogin returns the form in which login names are compared. A login name with an @ is an email address.
func foldLogin(login string) string {
	if strings.ContainsRune(login, '@') {
		return FoldEmail(login)
	}
	return Fold(strings.TrimSpace(login))
}
