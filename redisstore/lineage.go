package redisstore

import (
	"encoding/hex"
	"errors"
	"strings"
)

// lineage is the beginning of a server's master_replid, which is another one after
// every event that can have taken the data back to an earlier state: a restart from
// what was saved, a failover to a replica that was behind, a copy of another server's
// data. An active entry carries the lineage it was written under and is believed
// by no other, so that none comes back to life whose end was forgotten: it is
// unknown, and the ledger is asked. See decision 0014.
type lineage [8]byte

const replidField = "master_replid:"

// errNoLineage: whoever cannot tell what it may have forgotten is not believed.
var errNoLineage = errors.New("redisstore: INFO replication tells no " + strings.TrimSuffix(replidField, ":"))

// parseInfo reads the lineage in the answer to INFO replication.
func parseInfo(info string) (lineage, error) {
	_, rest, _ := strings.Cut(info, replidField)
	if l, ok := parseLineage(rest); ok {
		return l, nil
	}
	return lineage{}, errNoLineage
}

// parseLineage reads the hexadecimal digits of a lineage; more may follow.
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
