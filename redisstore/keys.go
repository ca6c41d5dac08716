package redisstore

import (
	"fmt"
	"strings"

	"github.com/sessiond/sessiond/identity/limit"
	"github.com/sessiond/sessiond/session"
)

// keys names the keys of the table in doc.go, each behind this prefix.
type keys string

func newKeys(prefix string) (keys, error) {
	// The first braces of a key are its hash tag: others before ours would
	// scatter a subject over the slots, or heap all subjects on one.
	if strings.ContainsAny(prefix, "{}") {
		return "", fmt.Errorf("redisstore: the key prefix %q contains a brace", prefix)
	}
	return keys(prefix), nil
}

func (k keys) session(subject, id string) string {
	return string(k) + "s:{" + subject + "}:" + id
}

func (k keys) blacklist(subject, tokenID string) string {
	return string(k) + "b:{" + subject + "}:" + tokenID
}

func (k keys) generation(subject string) string {
	return string(k) + "g:{" + subject + "}"
}

// check names what a Look reads, in this order: generation, session, blacklist.
// They are pieces of one string, as every check makes them.
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

// limit names what is kept of a key of a limit. All share one hash tag, so that
// one script may take of several.
func (k keys) limit(key limit.Key) string {
	return string(k) + "r:{limits}:" + key.Rule.Name + ":" + key.ID
}
