package identity

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// DeviceTTL is how long a device is recognized after the last login on it.
const DeviceTTL = 365 * 24 * time.Hour

// A device token lets sessiond recognize a device on which an account signed in before. It signs nobody
// in. But strangers who flood the account cannot lock out the device, because it has its own place in the
// queue of password hashes and its own counter of wrong passwords. The token has one entry for each account
// that signed in on the device, the latest first. An entry has 54 bytes, or 72 characters of base64. These
// are its parts with their sizes in bytes:
//
//	version 1 · day of the last login 2 · generation 3 · device id 16 · tag of the username 16 · tag of the email 16
//
// A tag is a MAC over the parts before the tags and the folded username or email address. So nobody can read
// these names from a token, and sessiond can check them without a database. The generation is the user's
// when the token was issued. A password reset raises it, which ends the tokens of all devices.
const (
	deviceVersion = 2
	deviceIDStart = 6
	headSize      = deviceIDStart + 16
	tagSize       = 16
	entrySize     = headSize + 2*tagSize
	entryChars    = entrySize / 3 * 4
	maxEntries    = 4 // the number of accounts for which one device can be recognized
)

type deviceEntry [entrySize]byte

func (e *deviceEntry) head() []byte        { return e[:headSize] }
func (e *deviceEntry) usernameTag() []byte { return e[headSize : headSize+tagSize] }
func (e *deviceEntry) emailTag() []byte    { return e[headSize+tagSize:] }
func (e *deviceEntry) generation() int64 {
	return int64(e[3])<<16 | int64(e[4])<<8 | int64(e[5])
}

// device is a recognized device. The zero value means an unknown device.
type device struct {
	id         string
	generation int64 // of the user, when the token was issued
}

// DeviceToken returns a new device token for a client that signed in as u or that used a token mailed to u.
// The parameter current is the device token that the client sent. The new token has a new entry for u and
// keeps the entries of other accounts.
//
// DeviceToken returns an empty string if u's email address is not confirmed. Otherwise somebody who registers
// another person's address would be a known device when that person uses it.
func (s *Service) DeviceToken(current string, u User) string {
	if len(s.DeviceSecret) == 0 || u.EmailVerifiedAt.IsZero() {
		return ""
	}
	username, email := Fold(u.Username), FoldEmail(u.Email)
	var own deviceEntry
	rand.Read(own[deviceIDStart:headSize])
	entries := []deviceEntry{own}
	for _, e := range s.deviceEntries(current) {
		switch {
		case hmac.Equal(e.usernameTag(), s.deviceTag(&e, username)): // an earlier entry of the same user, whose username never changes
			if e.generation() == u.DeviceGeneration {
				copy(own.head(), e.head())
			}
		case len(entries) < maxEntries:
			entries = append(entries, e)
		}
	}
	own[0] = deviceVersion
	binary.BigEndian.PutUint16(own[1:], uint16(s.today())) //nolint:gosec // G115: the number of days fits into 16 bits until the year 2149
	g := u.DeviceGeneration
	own[3], own[4], own[5] = byte(g>>16), byte(g>>8), byte(g) //nolint:gosec // G115: three bytes count more resets than a user makes
	copy(own.usernameTag(), s.deviceTag(&own, username))
	copy(own.emailTag(), s.deviceTag(&own, email))
	entries[0] = own
	var text []byte
	for _, e := range entries {
		text = base64.RawURLEncoding.AppendEncode(text, e[:])
	}
	return string(text)
}

// recognizeDevice returns the device if the device token proves an earlier login to the account with this
// username or email address. Otherwise it returns an unknown device. The caller must compare the generation
// with the user's.
func (s *Service) recognizeDevice(token, login string) device {
	entries := s.deviceEntries(token)
	if len(entries) == 0 || !storable(login) {
		return device{}
	}
	name := foldLogin(login)
	for _, e := range entries {
		// A username has no @ and an email address has one. So a name can match only the tag of its own kind.
		if tag := s.deviceTag(&e, name); hmac.Equal(tag, e.usernameTag()) || hmac.Equal(tag, e.emailTag()) {
			return device{base64.RawURLEncoding.EncodeToString(e[deviceIDStart:headSize]), e.generation()}
		}
	}
	return device{}
}

// deviceEntries decodes a device token and drops expired entries. It does not check the tags.
func (s *Service) deviceEntries(token string) []deviceEntry {
	n := len(token) / entryChars
	// Accept no token if there is no secret, because then anybody could make tags.
	if n == 0 || n > maxEntries || len(token)%entryChars != 0 || len(s.DeviceSecret) == 0 {
		return nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) != n*entrySize { // raw is too short if the token has line breaks, which the decoder skips
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

// deviceTag returns the MAC that proves that the entry was made for a folded username or email address.
func (s *Service) deviceTag(e *deviceEntry, name string) []byte {
	mac := hmac.New(sha256.New, s.DeviceSecret)
	mac.Write(e.head())
	mac.Write([]byte(name))
	return mac.Sum(nil)[:tagSize]
}

const day = 24 * time.Hour

// today returns the number of days since 1970 in UTC.
func (s *Service) today() int64 { return s.Now().Unix() / int64(day/time.Second) }
