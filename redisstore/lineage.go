package redisstore

import (
	"encoding/hex"
	"errors"
	"strings"
)

// lineage identifies a history of Redis data that was never rolled back. It is the beginning of a
// server's master_replid. Redis changes its master_replid after every event that can have returned
// the data to an earlier state: a restart from a saved file, a failover to a replica that was
// behind, a copy of another server's data.
//
// An active entry carries the lineage of the server that the entry was written to. On a server of
// any other lineage the entry counts as missing and the ledger decides, because that server may
// have forgotten a later revocation of the session. See decision 0014.
type lineage [8]byte

const replidField = "master_replid"

// lineageOf reads a server's lineage from the reply to INFO replication. It returns an error if the
// reply has no lineage, because the store trusts no entry on such a server.
func lineageOf(info string) (lineage, error) {
	if l, ok := parseLineage(infoField(info, replidField)); ok {
		return l, nil
	}
	return lineage{}, errors.New("redisstore: the reply to INFO replication has no master_replid")
}

// parseLineage decodes the first hexadecimal digits of a master_replid.
func parseLineage(replid string) (l lineage, ok bool) {
	digits := hex.EncodedLen(len(l))
	if len(replid) < digits {
		return l, false
	}
	var text [2 * len(l)]byte
	copy(text[:], replid)
	_, err := hex.Decode(l[:], text[:])
	return l, err == nil
}

// infoField returns the value of a field in a reply to INFO, or "" if the field is missing.
func infoField(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name); ok && strings.HasPrefix(value, ":") {
			return strings.TrimSpace(value[1:])
		}
	}
	return ""
}
