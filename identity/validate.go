package identity

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	minUsername = 3
	maxUsername = 64
	maxText     = 200
	// maxEmail is the length of the longest email address in bytes (RFC 5321 section 4.5.3.1.3).
	maxEmail       = 254
	maxEmailLocal  = 64
	maxDomainLabel = 63
)

// checkText accepts a person's name: at most 200 characters on one line. It allows invisible format
// characters, because some scripts need joiners to spell a name.
func checkText(s string) *problem {
	switch {
	case !utf8.ValidString(s):
		return &problem{CodeInvalid, "must be valid UTF-8"}
	case utf8.RuneCountInString(s) > maxText:
		return &problem{CodeTooLong, fmt.Sprintf("must have at most %d characters", maxText)}
	}
	for _, r := range s {
		if unicode.In(r, unicode.Cc, unicode.Zl, unicode.Zp) {
			return &problem{CodeInvalid, "must not contain control characters"}
		}
	}
	return nil
}

// checkEmail accepts one email address as in RFC 6531. It refuses quoted local parts, comments and IP
// address literals, because other programs often handle these wrongly.
func checkEmail(s string) *problem {
	switch {
	case s == "":
		return &problem{CodeRequired, "an email address is required"}
	case utf8.RuneCountInString(s) > maxText, len(s) > maxEmail:
		return &problem{CodeTooLong, fmt.Sprintf("must have at most %d characters", maxText)}
	case !utf8.ValidString(s):
		return &problem{CodeInvalid, "must be valid UTF-8"}
	}
	local, domain, found := strings.Cut(s, "@")
	if !found || !validLocalPart(local) || !validDomain(domain) {
		return &problem{CodeInvalid, "must be an email address"}
	}
	return nil
}

func validLocalPart(s string) bool {
	if len(s) > maxEmailLocal {
		return false
	}
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for _, r := range atom {
			if !visible(r) || strings.ContainsRune(`"(),:;<>@[\]`, r) {
				return false
			}
		}
	}
	return true
}

func validDomain(s string) bool {
	var label string
	for label = range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxDomainLabel || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if r != '-' && !unicode.In(r, unicode.L, unicode.M, unicode.Nd) || !visible(r) {
				return false
			}
		}
	}
	// No top-level domain is a number, so a domain that ends in a number would be an IPv4 address.
	return strings.Trim(label, "0123456789") != ""
}
