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
	ada  = User{ID: "1", Username: "Ada", Email: "ada@example.com"}
	bob  = User{ID: "2", Username: "bob", Email: "Bob@example.com"}
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// deviceService is a Service that can do no more than tell devices.
func deviceService(secret string, now time.Time) *Service {
	return &Service{DeviceSecret: []byte(secret), Now: func() time.Time { return now }}
}

// altered changes one byte of a token.
func altered(t testing.TB, token string, i int) string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	raw[i] ^= 1
	return base64.RawURLEncoding.EncodeToString(raw)
}

func TestKnownDevice(t *testing.T) {
	s := deviceService("secret", noon)
	token := s.DeviceToken("", ada)
	if len(token) != entryText {
		t.Fatalf("%d characters", len(token))
	}
	later := func(d time.Duration) *Service { return deviceService("secret", noon.Add(d)) }
	for _, c := range []struct {
		why   string
		by    *Service
		token string
		login string
		known bool
	}{
		{"her username", s, token, "Ada", true},
		{"in other case", s, token, "aDA", true},
		{"her email", s, token, "ada@example.com", true},
		{"in other case", s, token, "ADA@Example.COM", true},
		{"another's username", s, token, "bob", false},
		{"another's email", s, token, "bob@example.com", false},
		{"a name that begins like hers", s, token, "Adam", false},
		{"no name", s, token, "", false},
		{"no text", s, token, "Ada\x00", false},
		{"a huge name", s, token, strings.Repeat("Ada", 1<<20), false},
		{"a year later", later(365 * 24 * time.Hour), token, "Ada", true},
		{"more than a year later", later(366 * 24 * time.Hour), token, "Ada", false},
		{"by a clock that was put back", later(-48 * time.Hour), token, "Ada", true},
		{"another secret", deviceService("Secret", noon), token, "Ada", false},
		{"no secret here", deviceService("", noon), token, "Ada", false},
		{"no token", s, "", "Ada", false},
		{"one character short", s, token[1:], "Ada", false},
		{"one character more", s, token + "A", "Ada", false},
		{"half of it", s, token[:entryText/2], "Ada", false},
		{"in quotes", s, `"` + token + `"`, "Ada", false},
		{"with a line break in place of its end", s, token[:entryText-1] + "\n", "Ada", false},
		{"with line breaks as long as another", s, token + strings.Repeat("\n", entryText), "Ada", false},
		{"another alphabet", s, strings.Repeat("+/", entryText/2), "Ada", false},
		{"somebody else's token", s, s.DeviceToken("", bob), "Ada", false},
		{"a huge token", s, strings.Repeat(token, 1000), "Ada", false},
		{"after others", s, strings.Repeat(s.DeviceToken("", bob), maxEntries-1) + token, "Ada", true},
		{"after more than fit", s, strings.Repeat(s.DeviceToken("", bob), maxEntries) + token, "Ada", false},
	} {
		if id := c.by.knownDevice(c.token, c.login); (id != "") != c.known {
			t.Errorf("%s: %q", c.why, id)
		}
	}
}

func TestDeviceTokenIsUnalterable(t *testing.T) {
	s := deviceService("secret", noon)
	token := s.DeviceToken("", ada)
	for i := range entrySize {
		forged := altered(t, token, i)
		byUsername, byEmail := s.knownDevice(forged, "ada"), s.knownDevice(forged, "ada@example.com")
		// Each tag stands for one name.
		wantUsername, wantEmail := i >= headSize+tagSize, i >= headSize && i < headSize+tagSize
		if (byUsername != "") != wantUsername || (byEmail != "") != wantEmail {
			t.Errorf("byte %d altered: known by username %q, by email %q", i, byUsername, byEmail)
		}
	}
	// A version to come, rightly signed, may mean anything.
	var e deviceEntry
	e[0] = deviceVersion + 1
	binary.BigEndian.PutUint16(e[1:], uint16(s.today()))
	copy(e.usernameTag(), s.deviceTag(&e, "ada"))
	if id := s.knownDevice(base64.RawURLEncoding.EncodeToString(e[:]), "ada"); id != "" {
		t.Errorf("a token of version %d is known as %q", e[0], id)
	}
}

func TestDeviceTokenTellsNoName(t *testing.T) {
	s := deviceService("secret", noon)
	first, second := s.DeviceToken("", ada), s.DeviceToken("", ada)
	if first == second || s.knownDevice(first, "ada") == s.knownDevice(second, "ada") {
		t.Error("two devices are one")
	}
	raw, _ := base64.RawURLEncoding.DecodeString(first)
	other, _ := base64.RawURLEncoding.DecodeString(second)
	if bytes.Equal(raw[headSize:], other[headSize:]) {
		t.Error("tags that are the same on two devices link them")
	}
}

func TestDeviceIsRenewed(t *testing.T) {
	s := deviceService("secret", noon)
	token := s.DeviceToken("", ada)
	id := s.knownDevice(token, "ada")
	for month := range 24 {
		s = deviceService("secret", noon.Add(time.Duration(month)*30*day))
		token = s.DeviceToken(token, ada)
		if got := s.knownDevice(token, "ada"); got != id || len(token) != entryText {
			t.Fatalf("after %d months: %q in %d characters, want %q", month, got, len(token), id)
		}
	}
	s = deviceService("secret", noon.Add(10*365*day))
	if got := s.knownDevice(s.DeviceToken(token, ada), "ada"); got == id || got == "" {
		t.Errorf("what had lapsed was renewed: %q", got)
	}
}

func TestDeviceOfSomebodyWithAnotherEmail(t *testing.T) {
	s := deviceService("secret", noon)
	token := s.DeviceToken("", ada)
	id := s.knownDevice(token, "ada")
	moved := ada
	moved.Email = "lovelace@example.com"
	if got := s.knownDevice(token, moved.Email); got != "" {
		t.Errorf("known by an email that was never signed in with: %q", got)
	}
	if got := s.knownDevice(token, "ada"); got != id {
		t.Errorf("by username %q, want %q", got, id)
	}
	token = s.DeviceToken(token, moved)
	for login, want := range map[string]string{"ada": id, moved.Email: id, ada.Email: ""} {
		if got := s.knownDevice(token, login); got != want {
			t.Errorf("after a login, as %s: %q, want %q", login, got, want)
		}
	}
}

func TestSharedBrowser(t *testing.T) {
	s := deviceService("secret", noon)
	family := []User{ada, bob, {Username: "cyd", Email: "cyd@example.com"}, {Username: "dee", Email: "dee@example.com"}, {Username: "eve", Email: "eve@example.com"}}
	token, ids := "", map[string]string{}
	for round := range 3 {
		for _, u := range family[:maxEntries] {
			token = s.DeviceToken(token, u)
			id := s.knownDevice(token, u.Username)
			if round > 0 && ids[u.Username] != id {
				t.Errorf("round %d: %s is another device", round, u.Username)
			}
			ids[u.Username] = id
		}
	}
	if len(token) != maxEntries*entryText {
		t.Errorf("%d characters for %d people", len(token), maxEntries)
	}
	for _, u := range family[:maxEntries] {
		if got := s.knownDevice(token, u.Email); got != ids[u.Username] {
			t.Errorf("%s: %q", u.Username, got)
		}
	}
	// One more, and who was away the longest has to begin anew.
	token = s.DeviceToken(token, family[4])
	for i, u := range family {
		if known := s.knownDevice(token, u.Username) != ""; known != (i > 0) {
			t.Errorf("with one more, %s is known: %t", u.Username, known)
		}
	}
}

// Whatever a device brings, what it is given is well-formed, and bounded.
func TestDeviceTokenFromGarbage(t *testing.T) {
	s := deviceService("secret", noon)
	foreign := deviceService("other", noon).DeviceToken("", ada)
	for why, brought := range map[string]string{
		"garbage":       "garbage\r\nSet-Cookie: a=b",
		"a foreign one": foreign,
		"many foreign":  strings.Repeat(foreign, maxEntries),
		"too many":      strings.Repeat(foreign, maxEntries+1),
		"lapsed":        deviceService("secret", noon.Add(-366*day)).DeviceToken("", bob),
	} {
		token := s.DeviceToken(brought, ada)
		if len(token)%entryText != 0 || len(token) > maxEntries*entryText || s.knownDevice(token, "ada") == "" {
			t.Errorf("%s: %q", why, token)
		}
	}
}

// Without a secret everybody could make tokens, so there are none.
func TestNoDeviceSecret(t *testing.T) {
	s := deviceService("", noon)
	if token := s.DeviceToken("", ada); token != "" {
		t.Errorf("handed out: %q", token)
	}
	e := deviceEntry{deviceVersion}
	binary.BigEndian.PutUint16(e[1:], uint16(s.today()))
	copy(e.usernameTag(), s.deviceTag(&e, "ada"))
	if id := s.knownDevice(base64.RawURLEncoding.EncodeToString(e[:]), "ada"); id != "" {
		t.Errorf("a token that anybody can make is known as %q", id)
	}
}

// givenOut is a token that somebody's browser holds: of ada, then of bob.
const givenOut = "AVAhKR9Qxs90OflY9wMT6S0ORlzQpwV6geMr5ZLxkpJ5xJIsvmtkp45PH_R5m26GbX5QAVAhx6UB179dTiuUL_YhRSYLfQIdWsug5jk2KVporNNkQ9fYrqNVW93WlAfUGMiFqw9m"

func TestDevicesStayKnown(t *testing.T) {
	s := deviceService("secret", noon)
	for _, login := range []string{"ada", ada.Email, "bob", bob.Email} {
		if s.knownDevice(givenOut, login) == "" {
			t.Errorf("%s is a stranger from this release on", login)
		}
	}
}

func FuzzKnownDevice(f *testing.F) {
	s := deviceService("secret", noon)
	token := givenOut
	for _, seed := range []string{token, token[:entryText], token[entryText:], "", altered(f, token, 0), strings.Repeat("A", entryText)} {
		f.Add(seed, "Ada")
		f.Add(seed, "bob@example.com")
	}
	f.Fuzz(func(t *testing.T, brought, login string) {
		// Only parts of the one that was given out pass: nobody finds another.
		if id := s.knownDevice(brought, login); id != "" && id != s.knownDevice(token, login) {
			t.Errorf("%q as %q is known as %q", brought, login, id)
		}
		again := s.DeviceToken(brought, ada)
		if s.knownDevice(again, "ada") == "" || len(again) > maxEntries*entryText {
			t.Errorf("%q makes %q", brought, again)
		}
	})
}

func BenchmarkKnownDevice(b *testing.B) {
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
				s.knownDevice(c.token, login)
			}
		})
	}
}
