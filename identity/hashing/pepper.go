package hashing

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Pepper is a secret that is mixed into every password. It is kept apart from the database. Without
// the pepper, a thief of the database cannot test guesses against the hashes.
type Pepper struct {
	ID  string // 1 to 32 characters of A-Z a-z 0-9 - _; never reuse an id, because stored hashes name it
	Key []byte // at least 32 bytes
}

// publicPepper is the id that stored hashes name if no pepper was configured. Its key is empty.
const publicPepper = "0"

const (
	pepperIDAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

	maxPepperID  = 32
	minPepperKey = 32
)

// ParsePeppers reads a pepper file. Each line is "id:key", with a key of at least 32 bytes in base64.
// New hashes use the first pepper. The others verify older hashes. Blank lines and lines that begin
// with # are skipped. An error names the line, but does not quote it, because it may hold a key.
func ParsePeppers(file []byte) ([]Pepper, error) {
	var peppers []Pepper
	seen := map[string]bool{}
	for i, line := range strings.Split(string(file), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, encoded, found := strings.Cut(line, ":")
		if !found {
			return nil, fmt.Errorf("pepper file, line %d: want ID:BASE64-KEY", i+1)
		}
		key, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err != nil {
			return nil, fmt.Errorf("pepper file, line %d: want a key in base64 after the colon", i+1)
		}
		p := Pepper{ID: id, Key: key}
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("pepper file, line %d: %w", i+1, err)
		}
		if seen[id] {
			return nil, fmt.Errorf("pepper file, line %d: an earlier line has the same id; want unique ids", i+1)
		}
		seen[id] = true
		peppers = append(peppers, p)
	}
	if len(peppers) == 0 {
		return nil, errors.New("pepper file: no pepper found; want at least one line ID:BASE64-KEY")
	}
	return peppers, nil
}

func (p Pepper) check() error {
	switch {
	case p.ID == publicPepper:
		return fmt.Errorf("pepper id %q is reserved for hashes without a pepper; want another id", publicPepper)
	case !validPepperID(p.ID):
		return fmt.Errorf("pepper id: want 1 to %d characters of A-Z a-z 0-9 - _", maxPepperID)
	case len(p.Key) < minPepperKey:
		return fmt.Errorf("pepper key: want at least %d bytes", minPepperKey)
	}
	return nil
}

func validPepperID(id string) bool {
	return id != "" && len(id) <= maxPepperID && strings.Trim(id, pepperIDAlphabet) == ""
}
