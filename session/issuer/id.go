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

// sortable encodes bytes so that the encoded values sort like the bytes.
var sortable = base64.NewEncoding(urlSafe).WithPadding(base64.NoPadding)

// idTick is the unit of the time in an id of [NewTimedID]. 48 bits of it last until the year 2112.
const idTick = 16 * time.Microsecond

// NewTimedID returns an id of 30 URL-safe characters: 48 bits of time in units of 16 µs, then 128
// random bits. The ids sort by time. A history can therefore be paged and partitioned by id alone.
func NewTimedID(at time.Time) string {
	var b [24]byte
	binary.BigEndian.PutUint64(b[:8], uint64(at.UnixMicro())/uint64(idTick.Microseconds())) //nolint:gosec // G115: the clock is past 1970
	rand.Read(b[8:])
	return sortable.EncodeToString(b[2:]) // the time's upper 16 bits are 0
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
