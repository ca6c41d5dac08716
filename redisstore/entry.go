package redisstore

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"time"

	"github.com/sessiond/sessiond/session"
)

// A session's entry in Redis is encoded as
//
//	version     1 byte, 1
//	state       1 byte, 2 for ended or 5 for active; an ended entry stops here
//	epoch       uvarint, in which the entry was written
//	generation  uvarint
//	expiry      uvarint, of the session, in Unix seconds
//	roles       uvarint with the length in bytes, and the text
//	claims      in the same way
//	revoked     the ids of the session's revoked tokens, until the end of the value
//
// The id of a revoked token begins with a uvarint. If the id is the base64url form of 16 bytes, the
// uvarint is 0 and the 16 bytes follow. For any other text of n bytes, the uvarint is n+1 and the
// text follows.
//
// A value that differs from this format in any way counts as missing, and the ledger decides.
// Another release may have written the value with facts that this release does not understand.
const (
	entryVersion = 1

	stateEnded  = 2
	stateActive = 5 // 1, 3 and 4 are older formats without an epoch or without roles

	idBytes = 16
)

var endedEntry = []byte{entryVersion, stateEnded}

// idEncoding decodes token ids strictly. Otherwise several texts would decode to the same bytes,
// and an entry would return another id than the one that was stored.
var idEncoding = base64.RawURLEncoding.Strict()

func encodeEntry(e session.Entry, epoch int64) []byte {
	if e.Ended {
		return endedEntry
	}
	b := make([]byte, 0, 2+5*binary.MaxVarintLen64+len(e.Roles)+len(e.Custom)+len(e.RevokedTokens)*(1+idBytes))
	b = append(b, entryVersion, stateActive)
	b = binary.AppendUvarint(b, uint64(epoch))              //nolint:gosec // G115: the ledger numbers epochs from 1
	b = binary.AppendUvarint(b, uint64(e.Generation))       //nolint:gosec // G115: decodeEntry refuses an entry with a negative number
	b = binary.AppendUvarint(b, uint64(e.ExpiresAt.Unix())) //nolint:gosec // G115: decodeEntry refuses an entry with a negative number
	for _, text := range []string{string(e.Roles), e.Custom} {
		b = append(binary.AppendUvarint(b, uint64(len(text))), text...)
	}
	for _, id := range e.RevokedTokens {
		if raw, err := idEncoding.DecodeString(id); err == nil && len(raw) == idBytes {
			b = append(append(b, 0), raw...)
		} else {
			b = append(binary.AppendUvarint(b, uint64(len(id))+1), id...)
		}
	}
	return b
}

// decodeEntry decodes an entry. It reports false for a foreign value, and for an active entry unless
// it was written in the given epoch. The epoch 0 stands for none. An ended entry counts in every
// epoch, because a session never becomes active again.
func decodeEntry(b []byte, epoch int64) (e session.Entry, ok bool) {
	if len(b) < 2 || b[0] != entryVersion {
		return session.Entry{}, false
	}
	switch {
	case b[1] == stateEnded && len(b) == 2:
		return session.Entry{Ended: true}, true
	case b[1] != stateActive:
		return session.Entry{}, false
	}
	written, b, ok := cutNumber(b[2:])
	if !ok || written != epoch || epoch == 0 {
		return session.Entry{}, false
	}
	generation, b, ok := cutNumber(b)
	if !ok {
		return session.Entry{}, false
	}
	expiry, b, ok := cutNumber(b)
	if !ok {
		return session.Entry{}, false
	}
	roles, b, ok := cutText(b)
	if !ok {
		return session.Entry{}, false
	}
	claims, b, ok := cutText(b)
	if !ok {
		return session.Entry{}, false
	}
	e = session.Entry{
		Generation: generation, ExpiresAt: time.Unix(expiry, 0).UTC(),
		Attributes: session.Attributes{Roles: session.Roles(roles), Custom: claims},
	}
	for len(b) > 0 {
		var id string
		if id, b, ok = cutID(b); !ok {
			return session.Entry{}, false
		}
		e.RevokedTokens = append(e.RevokedTokens, id)
	}
	return e, true
}

func cutNumber(b []byte) (n int64, rest []byte, ok bool) {
	u, size := binary.Uvarint(b)
	if size <= 0 || u > math.MaxInt64 {
		return 0, nil, false
	}
	return int64(u), b[size:], true
}

func cutText(b []byte) (text string, rest []byte, ok bool) {
	n, b, ok := cutNumber(b)
	if !ok || n > int64(len(b)) {
		return "", nil, false
	}
	return string(b[:n]), b[n:], true
}

func cutID(b []byte) (id string, rest []byte, ok bool) {
	n, b, ok := cutNumber(b)
	switch {
	case !ok:
		return "", nil, false
	case n == 0 && len(b) >= idBytes:
		return idEncoding.EncodeToString(b[:idBytes]), b[idBytes:], true
	case n == 0 || n-1 > int64(len(b)):
		return "", nil, false
	default:
		return string(b[:n-1]), b[n-1:], true
	}
}
