package redisstore

import (
	"fmt"
	"strings"

	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/session"
)

// keys makes the names of Redis keys, which doc.go lists. The value is the prefix of all names.
type keys string

func newKeys(prefix string) (keys, error) {
	// The first braces of a key are its hash tag. A brace in the prefix would scatter the keys of a
	// subject over the slots of a Cluster, or put the keys of all subjects into one slot.
	if strings.ContainsAny(prefix, "{}") {
		return "", fmt.Errorf("redisstore: the key prefix %q contains a brace", prefix)
	}
	return keys(prefix), nil
}

func (k keys) session(subject, id string) string {
	return string(k) + "s:{" + subject + "}:" + id
}

func (k keys) revokedToken(subject, tokenID string) string {
	return string(k) + "b:{" + subject + "}:" + tokenID
}

func (k keys) generation(subject string) string {
	return string(k) + "g:{" + subject + "}"
}

// check returns the keys that Look reads: generation, session, revoked token. The three keys are
// slices of one string, because this saves every check two allocations.
func (k keys) check(ref session.Ref) [3]string {
	p, sub := string(k), ref.Subject
	all := p + "g:{" + sub + "}" + p + "s:{" + sub + "}:" + ref.SessionID + p + "b:{" + sub + "}:" + ref.TokenID
	g := len(p) + len("g:{}") + len(sub)
	s := g + len(p) + len("s:{}:") + len(sub) + len(ref.SessionID)
	return [3]string{all[:g], all[g:s], all[s:]}
}

func (k keys) lease(subject string) string {
	return string(k) + "l:{" + subject + "}"
}

func (k keys) sessionLease(subject, id string) string {
	return k.lease(subject) + ":" + id
}

// limit returns the key of a rate limit's bucket or backoff counter. All rate limits share one hash
// tag, so that one script may charge several of them on a Cluster.
func (k keys) limit(key limit.Key) string {
	return string(k) + "r:{limits}:" + key.Rule.Name + ":" + key.ID
}
