package identity

import (
	"cmp"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	minPassword = 8    // in characters
	maxPassword = 1024 // in bytes
	// minContextWord is in characters. A good password may contain a shorter username by chance.
	minContextWord = 3
	serviceName    = "sessiond"
)

// checkNewPassword applies the password policy: the minimum length, at most 1024 bytes, and valid UTF-8. A
// password must not be a common password, or little more than words that an attacker tries first for this
// user. It need not contain digits or symbols. The password is never altered.
func (s *Service) checkNewPassword(password string, words ...string) *problem {
	return checkPassword(password, s.PasswordMinLength, words...)
}

func checkPassword(password string, minLength int, words ...string) *problem {
	minLength = max(minLength, minPassword)
	switch {
	case password == "":
		return &problem{CodeRequired, "a password is required"}
	case len(password) > maxPassword:
		return &problem{CodeTooLong, fmt.Sprintf("must have at most %d bytes", maxPassword)}
	case !utf8.ValidString(password):
		return &problem{CodeInvalid, "must be valid UTF-8"}
	case utf8.RuneCountInString(password) < minLength:
		return &problem{CodeTooShort, fmt.Sprintf("must have at least %d characters", minLength)}
	}
	folded := Fold(password)
	if isCommon(folded) {
		return &problem{CodeTooCommon, "is one of the most common passwords"}
	}
	rest := withoutWords(folded, append(slices.Clone(words), serviceName))
	if len(rest) < len(folded) && utf8.RuneCountInString(rest) < minLength {
		return &problem{CodeTooSimilar, "is too similar to the username, the email address or the name of this service"}
	}
	return nil
}

// plausible returns false for a text that is too long or not UTF-8. It is never accepted as a password.
func plausible(password string) bool {
	return len(password) <= maxPassword && utf8.ValidString(password)
}

// contextWords returns the words that an attacker tries first as the password of a user.
func contextWords(username, email string) []string {
	local, _, _ := strings.Cut(email, "@")
	return []string{username, email, local}
}

// withoutWords removes the words from a folded text. It removes longer words first, because an email
// address contains its local part, which is also one of the words.
func withoutWords(folded string, words []string) string {
	slices.SortFunc(words, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, w := range words {
		if utf8.RuneCountInString(w) >= minContextWord {
			folded = strings.ReplaceAll(folded, Fold(w), "")
		}
	}
	return folded
}

// commonPasswords has one folded password per line, in bytewise order. A map would take megabytes more.
//
//go:embed common_passwords.txt
var commonPasswords string

// isCommon reports whether a folded password is one of the common passwords.
func isCommon(folded string) bool {
	lo, hi := 0, len(commonPasswords) // offsets in the list, each at the start of a line
	for lo < hi {
		mid := lo + (hi-lo)/2
		begin := strings.LastIndexByte(commonPasswords[lo:mid], '\n') + 1 + lo
		end := begin + strings.IndexByte(commonPasswords[begin:], '\n')
		switch strings.Compare(commonPasswords[begin:end], folded) {
		case 0:
			return true
		case -1:
			lo = end + 1
		default:
			hi = begin
		}
	}
	return false
}
