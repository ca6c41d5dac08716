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
	minPassword = 8
	// maxPassword is in bytes.
	maxPassword = 1024
	// minContextWord is in characters. A shorter word is found in good
	// passwords by chance.
	minContextWord = 3
)

// checkPassword holds a new password to the policy: at least minLength
// characters, at most 1024 bytes of UTF-8, no common password, and not just the
// words that anybody would try first for this user. Nothing is asked of its composition,
// and it is never altered.
func checkPassword(password string, minLength int, words ...string) *problem {
	minLength = max(minLength, minPassword)
	switch {
	case password == "":
		return &problem{CodeRequired, "a password is needed"}
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
	rest := withoutWords(folded, append(slices.Clone(words), product))
	if len(rest) < len(folded) && utf8.RuneCountInString(rest) < minLength {
		return &problem{CodeTooSimilar, "is too much like the username, the email address or the name of this service"}
	}
	return nil
}

// plausible tells whether a password could have been accepted by any policy.
// What could not is never hashed.
func plausible(password string) bool {
	return len(password) <= maxPassword && utf8.ValidString(password)
}

// contextWords are the words of a user that a guesser tries first.
func contextWords(username, email string) []string {
	local, _, _ := strings.Cut(email, "@")
	return []string{username, email, local}
}

// withoutWords cuts the words out of a folded text, longest first, so that an
// address goes before the name it contains.
func withoutWords(folded string, words []string) string {
	slices.SortFunc(words, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	for _, w := range words {
		if utf8.RuneCountInString(w) >= minContextWord {
			folded = strings.ReplaceAll(folded, Fold(w), "")
		}
	}
	return folded
}

// commonPasswords has one folded password a line, in bytewise order. It is
// searched where it lies in the program: a map of it would cost megabytes.
//
//go:embed common_passwords.txt
var commonPasswords string

// isCommon tells whether a folded password is on the list.
func isCommon(folded string) bool {
	lo, hi := 0, len(commonPasswords) // both at the beginning of a line
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
