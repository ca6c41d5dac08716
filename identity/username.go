package identity

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// checkUsername accepts 3 to 64 visible characters without @, because a login name with an @ is taken for
// an email address. If invisible characters were allowed, two different usernames could look the same.
func checkUsername(s string) *problem {
	switch n := utf8.RuneCountInString(s); {
	case s == "":
		return &problem{CodeRequired, "a username is required"}
	case !utf8.ValidString(s):
		return &problem{CodeInvalid, "must be valid UTF-8"}
	case n < minUsername:
		return &problem{CodeTooShort, fmt.Sprintf("must have at least %d characters", minUsername)}
	case n > maxUsername:
		return &problem{CodeTooLong, fmt.Sprintf("must have at most %d characters", maxUsername)}
	case strings.ContainsRune(s, '@'):
		return &problem{CodeInvalid, "must not contain an @"}
	case s[0] == ' ' || s[len(s)-1] == ' ':
		return &problem{CodeInvalid, "must not begin or end with a space"}
	}
	for _, r := range s {
		if !visible(r) && r != ' ' {
			return &problem{CodeInvalid, "must not contain control, formatting or other invisible characters"}
		}
	}
	return nil
}

// checkNewUsername also refuses names that look like another one, and reserved names. Accounts that exist
// already, and imported ones, may have such names.
func (s *Service) checkNewUsername(name string) *problem {
	if p := checkUsername(name); p != nil {
		return p
	}
	switch {
	case norm.NFKC.String(name) != norm.NFC.String(name):
		return &problem{CodeInvalid, "must be written in ordinary letters and digits, not in styled or full-width ones"}
	case !oneScript(name):
		return &problem{CodeInvalid, "must not mix letters of different scripts"}
	case slices.ContainsFunc(s.ReservedNames, func(r string) bool { return bare(r) == bare(name) }):
		return &problem{CodeReserved, "is reserved"}
	}
	return nil
}

// bare returns a name without what distinguishes ad.min from Admin.
func bare(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" .-_", r) {
			return -1
		}
		return r
	}, Fold(name))
}

// blank are characters that are printed as nothing, although Unicode counts them as symbols or letters.
var blank = []rune{'\u2800', '\u115f', '\u1160', '\u3164', '\uffa0', '\U00016fe4', '\U0001d159'}

// visible reports whether people can see a character. It returns false for control and format characters
// (bidirectional marks, joiners), white space, private use and unassigned characters, and characters that
// renderers may leave out.
func visible(r rune) bool {
	return unicode.IsPrint(r) && r != ' ' && !slices.Contains(blank, r) &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// scriptsTogether are scripts that people write together (UTS 39 section 5.2, "highly restrictive").
var scriptsTogether = [][]string{
	{"Latin", "Han", "Hiragana", "Katakana"}, {"Latin", "Han", "Bopomofo"}, {"Latin", "Han", "Hangul"},
}

// oneScript reports whether all letters of a name are of one script, or of scripts that people write together.
// Otherwise a Cyrillic а could stand for a Latin one.
func oneScript(name string) bool {
	var scripts []string
	for _, r := range name {
		if r < utf8.RuneSelf && !unicode.IsLetter(r) || unicode.In(r, unicode.Common, unicode.Inherited) {
			continue
		}
		if script := scriptOf(r); !slices.Contains(scripts, script) {
			scripts = append(scripts, script)
		}
	}
	within := func(together []string) bool {
		return !slices.ContainsFunc(scripts, func(s string) bool { return !slices.Contains(together, s) })
	}
	return len(scripts) <= 1 || slices.ContainsFunc(scriptsTogether, within)
}

func scriptOf(r rune) string {
	if r < utf8.RuneSelf {
		return "Latin"
	}
	for name, table := range unicode.Scripts {
		if unicode.Is(table, r) {
			return name
		}
	}
	return ""
}
