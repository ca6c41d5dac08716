package issuer

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// sortable is base64url with the alphabet in ASCII order, so that the encoded
// text of two values sorts as the values do.
var sortable = base64.NewEncoding(
	"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz").
	WithPadding(base64.NoPadding)

// idTick is the unit of the time at the head of a [NewTimedID]: 48 bits of it
// last until the year 2112.
const idTick = 16 * time.Microsecond

// NewTimedID returns an id of 30 URL-safe characters that begins with its time:
// 48 bits of time in units of 16 µs, then 128 random bits. Ids sort
// bytewise by time, so that a history can be paged and partitioned by id alone.
func NewTimedID(at time.Time) string {
	var b [22]byte
	var tick [8]byte
	binary.BigEndian.PutUint64(tick[:], uint64(at.UnixMicro())/uint64(idTick.Microseconds())) //nolint:gosec // G115: the clock is past 1970
	copy(b[:6], tick[2:])
	rand.Read(b[6:])
	return sortable.EncodeToString(b[:])
}

// NewID returns an id of 22 URL-safe characters that holds 128 random bits.
func NewID() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// ValidID reports whether s can be one of our ids at all. Check an id from outside with it, so that
// nothing else gets as far as a store.
func ValidID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
