package issuer

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"
)

// urlSafe is the alphabet of base64url in ASCII order.
const urlSafe = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"

// sortable is an encoding whose texts sort like the encoded bytes.
var sortable = base64.NewEncoding(urlSafe).WithPadding(base64.NoPadding)

// idTick is the time unit in an id of [NewTimedID]. 48 bits of such units last until 2112.
const idTick = 16 * time.Microsecond

// NewTimedID returns an id of 30 URL-safe characters: 48 bits of time in units of 16 µs, then 128
// random bits. The ids sort by time, so a login history can be paged and partitioned by id alone.
func NewTimedID(at time.Time) string {
	var b [24]byte
	binary.BigEndian.PutUint64(b[:8], uint64(at.UnixMicro())/uint64(idTick.Microseconds())) //nolint:gosec // G115: the time is not negative, because the clock is past 1970
	rand.Read(b[8:])
	return sortable.EncodeToString(b[2:]) // without the upper 16 bits of the time, which are 0
}

// NewID returns an id of 22 URL-safe characters with 128 random bits.
func NewID() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// ValidID reports whether s has the form of an id: 1 to 64 URL-safe characters. An id that a client
// sent must be checked before it reaches a store.
func ValidID(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, urlSafe) == ""
}
