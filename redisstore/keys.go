package redisstore

import (
	"fmt"
	"strings"

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
func (k keys) check(ref session.Ref) [3]string {
	return [3]string{k.generation(ref.Subject), k.session(ref.Subject, ref.SessionID), k.blacklist(ref.Subject, ref.TokenID)}
}

func (k keys) lease(subject string) string {
	return string(k) + "l:{" + subject + "}"
}
