package identity

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// DeviceTTL is how long a device is known after its last login.
const DeviceTTL = 365 * 24 * time.Hour

// A device token is one entry for each account that signed in on the device,
// the latest first. An entry of 51 bytes is 68 characters with no bit to spare:
//
//	version 1 · day 2 · id 16 · tag of the username 16 · tag of the email 16
//
// A tag is a MAC over what stands before the tags and a name, so that nobody
// reads a name out of a token, and it is known without looking anything up. It opens nothing:
// all it is worth is a lane of one's own where logins queue and are counted.
const (
	deviceVersion = 1
	deviceIDStart = 3
	headSize      = deviceIDStart + 16
	tagSize       = 16
	entrySize     = headSize + 2*tagSize
	entryText     = entrySize / 3 * 4
	// maxEntries bounds how many accounts a shared browser is known for.
	maxEntries = 4
)

type deviceEntry [entrySize]byte

func (e *deviceEntry) head() []byte        { return e[:headSize] }
func (e *deviceEntry) usernameTag() []byte { return e[headSize : headSize+tagSize] }
func (e *deviceEntry) emailTag() []byte    { return e[headSize+tagSize:] }
func (e *deviceEntry) id() string {
	return base64.RawURLEncoding.EncodeToString(e[deviceIDStart:headSize])
}

// DeviceToken returns what a device that just signed in as u, or proved to read
// u's mail, is to bring along next time; brought is what it brought now. Its entry for u is renewed, those
// of other accounts stay.
func (s *Service) DeviceToken(brought string, u User) string {
	if len(s.DeviceSecret) == 0 {
		return ""
	}
	username, email := Fold(u.Username), Fold(u.Email)
	var own deviceEntry
	rand.Read(own[deviceIDStart:headSize])
	entries := []deviceEntry{own}
	for _, e := range s.deviceEntries(brought) {
		switch {
		case hmac.Equal(e.usernameTag(), s.deviceTag(&e, username)): // usernames do not change
			copy(own.head(), e.head())
		case len(entries) < maxEntries:
			entries = append(entries, e)
		}
	}
	own[0] = deviceVersion
	binary.BigEndian.PutUint16(own[1:], uint16(s.today())) //nolint:gosec // G115: it fits until 2149
	copy(own.usernameTag(), s.deviceTag(&own, username))
	copy(own.emailTag(), s.deviceTag(&own, email))
	entries[0] = own
	var text []byte
	for _, e := range entries {
		text = base64.RawURLEncoding.AppendEncode(text, e[:])
	}
	return string(text)
}

// knownDevice tells which device, if any, a device token proves to have signed
// in before as login. "": none.
func (s *Service) knownDevice(token, login string) (id string) {
	entries := s.deviceEntries(token)
	if len(entries) == 0 || !storable(login) {
		return ""
	}
	name := Fold(login)
	for _, e := range entries {
		// A username has no @ and an email has one: neither passes for the other.
		if tag := s.deviceTag(&e, name); hmac.Equal(tag, e.usernameTag()) || hmac.Equal(tag, e.emailTag()) {
			return e.id()
		}
	}
	return ""
}

// deviceEntries are those of a token that are of our form and have not lapsed;
// whose they are only their tags tell.
func (s *Service) deviceEntries(token string) []deviceEntry {
	n := len(token) / entryText
	// Without a secret everybody could make tags.
	if n == 0 || n > maxEntries || len(token)%entryText != 0 || len(s.DeviceSecret) == 0 {
		return nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) != n*entrySize { // the decoder passes over line breaks
		return nil
	}
	entries := make([]deviceEntry, 0, n)
	for ; len(raw) > 0; raw = raw[entrySize:] {
		e := deviceEntry(raw)
		age := s.today() - int64(binary.BigEndian.Uint16(e[1:]))
		if e[0] == deviceVersion && age <= int64(DeviceTTL/day) {
			entries = append(entries, e)
		}
	}
	return entries
}

// deviceTag is the tag of an entry for a name.
func (s *Service) deviceTag(e *deviceEntry, name string) []byte {
	mac := hmac.New(sha256.New, s.DeviceSecret)
	mac.Write(e.head())
	mac.Write([]byte(name))
	return mac.Sum(nil)[:tagSize]
}

const day = 24 * time.Hour

// today is the day since 1970, in UTC.
func (s *Service) today() int64 { return s.Now().Unix() / int64(day/time.Second) }
