package hashing

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Pepper is a secret that is mixed into passwords and kept apart from the
// database, so that a copy of the database alone cannot be searched.
type Pepper struct {
	ID  string // 1 to 32 of A-Z a-z 0-9 - _; written into each hash, so never reused
	Key []byte // at least 32 bytes
}

// publicPepper names the empty key, under which is hashed what was hashed when
// no pepper was configured.
const publicPepper = "0"

const (
	maxPepperID  = 32
	minPepperKey = 32
)

// ParsePeppers reads a pepper file: one "id:key" a line, the key in base64 and
// at least 32 bytes long; the first one hashes and the others still verify. Blank
// lines and lines that begin with # are skipped. Errors name the line and quote
// nothing.
func ParsePeppers(file []byte) ([]Pepper, error) {
	var peppers []Pepper
	seen := map[string]bool{}
	number := 0
	for line := range strings.Lines(string(file)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, encoded, found := strings.Cut(line, ":")
		if !found {
			return nil, fmt.Errorf("pepper file, line %d: not of the form id:base64key", number)
		}
		key, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err != nil {
			return nil, fmt.Errorf("pepper file, line %d: the key is not base64", number)
		}
		p := Pepper{ID: id, Key: key}
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("pepper file, line %d: %w", number, err)
		}
		if seen[id] {
			return nil, fmt.Errorf("pepper file, line %d: its id is given twice", number)
		}
		seen[id] = true
		peppers = append(peppers, p)
	}
	if len(peppers) == 0 {
		return nil, errors.New("pepper file: no pepper in it")
	}
	return peppers, nil
}

func (p Pepper) check() error {
	switch {
	case p.ID == publicPepper:
		return fmt.Errorf("pepper id %q stands for no pepper", publicPepper)
	case !validPepperID(p.ID):
		return fmt.Errorf("a pepper id is 1 to %d of A-Z a-z 0-9 - _", maxPepperID)
	case len(p.Key) < minPepperKey:
		return fmt.Errorf("a pepper key has at least %d bytes", minPepperKey)
	}
	return nil
}

func validPepperID(id string) bool {
	if id == "" || len(id) > maxPepperID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if !isDigit(c) && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}
