package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"
	"time"
)

var (
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ada  = User{ID: "1", Username: "Ada", Email: "ada@example.com", EmailVerifiedAt: noon}
	bob  = User{ID: "2", Username: "bob", Email: "Bob@example.com", EmailVerifiedAt: noon}
)

// deviceService returns a Service that can only issue and recognize device tokens.
func deviceService(secret string, now time.Time) *Service {
	return &Service{DeviceSecret: []byte(secret), Now: func() time.Time { return now }}
}

// altered returns the device token with the lowest bit of its decoded byte i flipped.
func altered(t testing.TB, token string, i int) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	raw[i] ^= 1
	return base64.RawURLEncoding.EncodeToString(raw)
}

func TestRecognizeDevice_NeedsValidTokenForTheLoginName(t *testing.T) {
	s := deviceService("secret", noon)
	token := s.DeviceToken("", ada)
	if len(token) != entryChars {
		t.Fatalf("the token has %d characters, want %d", len(token), entryChars)
	}
	later := func(d time.Duration) *Service { return deviceService("secret", noon.Add(d)) }
	for _, c := range []struct {
		why   string
		by    *Service
		token string
		login string
		known bool
	}{
		{"the username", s, token, "Ada", true},
		{"the username in another case", s, token, "aDA", true},
		{"the email", s, token, "ada@example.com", true},
		{"the email in another case", s, token, "ADA@Example.COM", true},
		{"another user's username", s, token, "bob", false},
		{"another user's email", s, token, "bob@example.com", false},
		{"a longer name", s, token, "Adam", false},
		{"an empty name", s, token, "", false},
		{"a name with NUL", s, token, "Ada\x00", false},
		{"a huge name", s, token, strings.Repeat("Ada", 1<<20), false},
		{"a year later", later(365 * 24 * time.Hour), token, "Ada", true},
		{"more than a year later", later(366 * 24 * time.Hour), token, "Ada", false},
		{"a clock that was set back", later(-48 * time.Hour), token, "Ada", true},
		{"another secret", deviceService("Secret", noon), token, "Ada", false},
		{"no secret is configured", deviceService("", noon), token, "Ada", false},
		{"no token", s, "", "Ada", false},
		{"a token without its first character", s, token[1:], "Ada", false},
		{"a token with one character more", s, token + "A", "Ada", false},
		{"half a token", s, token[:entryChars/2], "Ada", false},
		{"a token in quotes", s, `"` + token + `"`, "Ada", false},
		{"a line break instead of the last character", s, token[:entryChars-1] + "\n", "Ada", false},
		{"line breaks as long as an entry", s, token + strings.Repeat("\n", entryChars), "Ada", false},
		{"the standard base64 alphabet", s, strings.Repeat("+/", entryChars/2), "Ada", false},
		{"another user's token", s, s.DeviceToken("", bob), "Ada", false},
		{"a huge token", s, strings.Repeat(token, 1000), "Ada", false},
		{"the last of the allowed entries", s, strings.Repeat(s.DeviceToken("", bob), maxEntries-1) + token, "Ada", true},
		{"too many entries", s, strings.Repeat(s.DeviceToken("", bob), maxEntries) + token, "Ada", false},
	} {
		if id := c.by.recognizeDevice(c.token, c.login).id; (id != "") != c.known {
			t.Errorf("%s: recognized as device %q, want recognized %t", c.why, id, c.known)
		}
	}
}

func TestRecognizeDevice_RefusesAlteredTokens(t *testing.T) {
	s := deviceService("secret", noon)
	token := s.DeviceToken("", ada)
	for i := range entrySize {
		forged := altered(t, token, i)
		byUsername, byEmail := s.recognizeDevice(forged, "ada").id, s.recognizeDevice(forged, "ada@example.com").id
		// If the username tag is altered, the device is still recognized by the email address, and vice
		// versa.
		wantUsername, wantEmail := i >= headSize+tagSize, i >= headSize && i < headSize+tagSize
		if (byUsername != "") != wantUsername || (byEmail != "") != wantEmail {
			t.Errorf("byte %d altered: recognized by username as %q, by email as %q", i, byUsername, byEmail)
		}
	}
	// An entry of a future version is refused even if its tag is right, because its meaning is unknown.
	var e deviceEntry
	e[0] = deviceVersion + 1
	binary.BigEndian.PutUint16(e[1:], uint16(s.today()))
	copy(e.usernameTag(), s.deviceTag(&e, "ada"))
	if id := s.recognizeDevice(base64.RawURLEncoding.EncodeToString(e[:]), "ada").id; id != "" {
		t.Errorf("a token of version %d is recognized as %q", e[0], id)
	}
}

func TestDeviceToken_DoesNotRevealThatTwoDevicesHaveTheSameUser(t *testing.T) {
	s := deviceService("secret", noon)
	first, second := s.DeviceToken("", ada), s.DeviceToken("", ada)
	if first == second || s.recognizeDevice(first, "ada").id == s.recognizeDevice(second, "ada").id {
		t.Error("two devices have the same token or id")
	}
	raw, _ := base64.RawURLEncoding.DecodeString(first)
	other, _ := base64.RawURLEncoding.DecodeString(second)
	if bytes.Equal(raw[headSize:], other[headSize:]) {
		t.Error("two devices have the same tags, which links them")
	}
}

func TestDeviceToken_EachLoginRenewsTheExpiry(t *testing.T) {
	s := deviceService("secret", noon)
	token := s.DeviceToken("", ada)
	id := s.recognizeDevice(token, "ada").id
	for month := range 24 {
		s = deviceService("secret", noon.Add(time.Duration(month)*30*day))
		token = s.DeviceToken(token, ada)
		if got := s.recognizeDevice(token, "ada").id; got != id || len(token) != entryChars {
			t.Fatalf("after %d months: recognized as %q, want %q; %d characters", month, got, id, len(token))
		}
	}
	s = deviceService("secret", noon.Add(10*365*day))
	if got := s.recognizeDevice(s.DeviceToken(token, ada), "ada").id; got == id || got == "" {
		t.Errorf("an expired entry was renewed: %q", got)
	}
}

func TestDeviceToken_RecognizesChangedEmailAfterNextLogin(t *testing.T) {
	s := deviceService("secret", noon)
	token := s.DeviceToken("", ada)
	id := s.recognizeDevice(token, "ada").id
	moved := ada
	moved.Email = "lovelace@example.com"
	if got := s.recognizeDevice(token, moved.Email).id; got != "" {
		t.Errorf("before a login with the new email, it is recognized as %q", got)
	}
	if got := s.recognizeDevice(token, "ada").id; got != id {
		t.Errorf("the username is recognized as %q, want %q", got, id)
	}
	token = s.DeviceToken(token, moved)
	for login, want := range map[string]string{"ada": id, moved.Email: id, ada.Email: ""} {
		if got := s.recognizeDevice(token, login).id; got != want {
			t.Errorf("after a login, %s is recognized as %q, want %q", login, got, want)
		}
	}
}

func TestDeviceToken_HasGenerationOfUser(t *testing.T) {
	s := deviceService("secret", noon)
	later := ada
	later.DeviceGeneration = 0x012345
	token := s.DeviceToken("", ada)
	if got := s.recognizeDevice(token, "ada"); got.generation != 0 {
		t.Errorf("generation %d, want 0", got.generation)
	}
	renewed := s.recognizeDevice(s.DeviceToken(token, later), ada.Email)
	if renewed.generation != 0x012345 || renewed.id == s.recognizeDevice(token, "ada").id {
		t.Errorf("after a reset, the device is %+v, want another id and generation %d", renewed, later.DeviceGeneration)
	}
}

// Otherwise somebody who registers another person's address would be a known device of that person.
func TestDeviceToken_IsNotIssuedForUnconfirmedAddress(t *testing.T) {
	s := deviceService("secret", noon)
	unconfirmed := ada
	unconfirmed.EmailVerifiedAt = time.Time{}
	if token := s.DeviceToken(s.DeviceToken("", bob), unconfirmed); token != "" {
		t.Errorf("issued %q", token)
	}
}

func TestDeviceToken_HoldsUpToFourAccounts(t *testing.T) {
	s := deviceService("secret", noon)
	family := []User{
		ada, bob,
		{Username: "cyd", Email: "cyd@example.com", EmailVerifiedAt: noon},
		{Username: "dee", Email: "dee@example.com", EmailVerifiedAt: noon},
		{Username: "eve", Email: "eve@example.com", EmailVerifiedAt: noon},
	}
	token, ids := "", map[string]string{}
	for round := range 3 {
		for _, u := range family[:maxEntries] {
			token = s.DeviceToken(token, u)
			id := s.recognizeDevice(token, u.Username).id
			if round > 0 && ids[u.Username] != id {
				t.Errorf("round %d: %s has another device id", round, u.Username)
			}
			ids[u.Username] = id
		}
	}
	if len(token) != maxEntries*entryChars {
		t.Errorf("%d characters for %d accounts", len(token), maxEntries)
	}
	for _, u := range family[:maxEntries] {
		if got := s.recognizeDevice(token, u.Email).id; got != ids[u.Username] {
			t.Errorf("%s is recognized as %q, want %q", u.Username, got, ids[u.Username])
		}
	}
	// A fifth account replaces the account with the oldest last login.
	token = s.DeviceToken(token, family[4])
	for i, u := range family {
		if known := s.recognizeDevice(token, u.Username).id != ""; known != (i > 0) {
			t.Errorf("after a fifth account, %s is recognized: %t", u.Username, known)
		}
	}
}

func TestDeviceToken_ReplacesInvalidToken(t *testing.T) {
	s := deviceService("secret", noon)
	foreign := deviceService("other", noon).DeviceToken("", ada)
	for why, current := range map[string]string{
		"not a token":            "garbage\r\nSet-Cookie: a=b",
		"another secret's entry": foreign,
		"many such entries":      strings.Repeat(foreign, maxEntries),
		"too many such entries":  strings.Repeat(foreign, maxEntries+1),
		"an expired entry":       deviceService("secret", noon.Add(-366*day)).DeviceToken("", bob),
	} {
		token := s.DeviceToken(current, ada)
		if len(token)%entryChars != 0 || len(token) > maxEntries*entryChars || s.recognizeDevice(token, "ada").id == "" {
			t.Errorf("%s: %q", why, token)
		}
	}
}

// Without a secret, anybody could make device tokens, so the service neither issues nor accepts one.
func TestDeviceToken_IsNeitherIssuedNorAcceptedWithoutSecret(t *testing.T) {
	s := deviceService("", noon)
	if token := s.DeviceToken("", ada); token != "" {
		t.Errorf("issued %q", token)
	}
	e := deviceEntry{deviceVersion}
	binary.BigEndian.PutUint16(e[1:], uint16(s.today()))
	copy(e.usernameTag(), s.deviceTag(&e, "ada"))
	if id := s.recognizeDevice(base64.RawURLEncoding.EncodeToString(e[:]), "ada").id; id != "" {
		t.Errorf("a token that anybody can make is recognized as %q", id)
	}
}

// issuedToken is a device token of an earlier release, with entries for the users ada and bob. Browsers
// still have such tokens.
const issuedToken = "AlAhAAAAa4ayc_80_OGda4BO_1o_V7rVctKHkSbq3LsAf8o_JHt7OaMNaBo2t7pFwkHmyxo4AlAhAAAA1HNeOiZeFu7gP1lxi5tdA8fwhwwedeIKaCQLtbQJMoUAXslFdlGccdiV2s42-3li"

func TestRecognizeDevice_AcceptsTokensOfEarlierReleases(t *testing.T) {
	s := deviceService("secret", noon)
	for _, login := range []string{"ada", ada.Email, "bob", bob.Email} {
		if s.recognizeDevice(issuedToken, login).id == "" {
			t.Errorf("%s is no longer recognized", login)
		}
	}
}

func FuzzDeviceToken_RecognizesOnlyIssuedEntries(f *testing.F) {
	s := deviceService("secret", noon)
	token := issuedToken
	for _, seed := range []string{token, token[:entryChars], token[entryChars:], "", altered(f, token, 0), strings.Repeat("A", entryChars)} {
		f.Add(seed, "Ada")
		f.Add(seed, "bob@example.com")
	}
	f.Fuzz(func(t *testing.T, current, login string) {
		// The service must recognize only entries that it issued, because nobody else can make their tags (MACs).
		if id := s.recognizeDevice(current, login).id; id != "" && id != s.recognizeDevice(token, login).id {
			t.Errorf("%q with login %q is recognized as %q", current, login, id)
		}
		renewed := s.DeviceToken(current, ada)
		if s.recognizeDevice(renewed, "ada").id == "" || len(renewed) > maxEntries*entryChars {
			t.Errorf("%q was renewed as %q", current, renewed)
		}
	})
}

func BenchmarkRecognizeDevice(b *testing.B) {
	s := deviceService("secret", noon)
	token := s.DeviceToken("", ada)
	for _, c := range []struct{ name, token string }{
		{"known", token}, {"four strangers", strings.Repeat(token, maxEntries)}, {"none", ""}, {"garbage", strings.Repeat("?", 8000)},
	} {
		b.Run(c.name, func(b *testing.B) {
			login := "bob"
			if c.name == "known" {
				login = "ada"
			}
			for b.Loop() {
				s.recognizeDevice(c.token, login)
			}
		})
	}
}
