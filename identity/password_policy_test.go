package identity

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestCheckPassword_ReturnsProblemOfRefusedPassword_ASVS_V6_2_1_V6_2_5_V6_2_9_V6_2_11(t *testing.T) {
	words := contextWords("Alice", "alice.smith@example.com")
	for _, c := range []struct {
		why, password string
		minLength     int
		want          string
	}{
		{"ordinary", "correct horse", 8, ""},
		{"any kinds of characters", "\x00\t\n 1aé😀", 8, ""},
		{"8 characters that are 16 bytes", "жжжжжжжя", 8, ""},
		{"only spaces, which are not trimmed", strings.Repeat(" ", 8), 8, ""},
		{"the longest", strings.Repeat("Ab3~", 256), 8, ""},
		{"empty", "", 8, CodeRequired},
		{"short", "horse17", 8, CodeTooShort},
		{"seven characters of two bytes", "жжжжжжж", 8, CodeTooShort},
		{"shorter than the configured minimum length", "correct horse", 14, CodeTooShort},
		{"a minimum length below 8", "horse17", 4, CodeTooShort},
		{"a minimum length of 0, which means 8", "horse17x", 0, ""},
		{"long", strings.Repeat("a", 1025), 8, CodeTooLong},
		{"not UTF-8", "correct\xffhorse", 8, CodeInvalid},
		{"common", "password", 8, CodeTooCommon},
		{"common in another case", "PaSSword", 8, CodeTooCommon},
		{"common after folding", "pa\u017fsword", 8, CodeTooCommon},
		{"name and digits", "alice-1997", 8, CodeTooSimilar},
		{"name twice", "AliceALICE1", 8, CodeTooSimilar},
		{"the email address", "alice.smith@example.com", 8, CodeTooSimilar},
		{"the local part of the address", "alice.smith2026", 8, CodeTooSimilar},
		{"the name of the service", "SessionD2026", 8, CodeTooSimilar},
		{"enough besides the name", "alice-password-1x", 8, ""},
		{"just enough besides the name", "alice12345679", 8, ""},
		{"not enough for a longer minimum", "alice12345679", 9, CodeTooSimilar},
	} {
		if got := code(checkPassword(c.password, c.minLength, words...)); got != c.want {
			t.Errorf("%s, %.40q: problem %q, want %q", c.why, c.password, got, c.want)
		}
	}
}

func TestCheckPassword_IgnoresUsernamesOfTwoCharacters(t *testing.T) {
	if p := checkPassword("bo-bo-bo", 8, "bo", ""); p != nil {
		t.Errorf("refused: %s", p.detail)
	}
}

func TestCheckPassword_DoesNotChangeItsArguments(t *testing.T) {
	words := []string{"Alice", "alice.smith@example.com", "alice.smith"}
	before := slices.Clone(words)
	checkPassword("correct horse", 8, words[:2]...)
	if !slices.Equal(words, before) {
		t.Errorf("changed to %q", words)
	}
}

func TestIsCommon_FindsEveryPasswordOfTheList_ASVS_V6_2_4_V6_2_12(t *testing.T) {
	list := strings.Split(strings.TrimSuffix(commonPasswords, "\n"), "\n")
	if !slices.IsSorted(list) {
		t.Fatal("the list is not in bytewise order")
	}
	if len(list) < 40000 {
		t.Errorf("the list has %d passwords, want at least 40000", len(list))
	}
	for _, p := range list {
		if Fold(p) != p || len(p) < minPassword {
			t.Errorf("%q is not folded or too short, so it never matches", p)
		}
		if !isCommon(p) {
			t.Errorf("does not find %q", p)
		}
		if isCommon(p + "\x00") {
			t.Errorf("finds %q, which is not on the list", p+"\x00")
		}
	}
	for _, p := range []string{"", "\n", "!", "~~~~~~~~~~", list[0] + "\n" + list[1], list[0][1:]} {
		if isCommon(p) {
			t.Errorf("finds %q, which is not on the list", p)
		}
	}
}

// The test vectors are in a directory beside the directory of the project.
const vectors = "../../shared/vectors/"

func readVector(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(vectors + name)
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("SKIPPED: there are no test vectors in %s%s", vectors, name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestCheckPassword_RefusesThe3000MostCommonPasswords(t *testing.T) {
	list := strings.Split(string(readVector(t, "passwords/zxcvbn_common_len8plus.txt")), "\n")
	if len(list) < 3000 {
		t.Fatalf("the list has %d passwords, want at least 3000", len(list))
	}
	for i, p := range list[:3000] {
		for _, spelling := range []string{p, strings.ToUpper(p)} {
			if got := code(checkPassword(spelling, 8)); got != CodeTooCommon {
				t.Errorf("the password with rank %d, %q: problem %q, want %q", i+1, spelling, got, CodeTooCommon)
			}
		}
	}
}
