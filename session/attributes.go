package session

import (
	"slices"
	"strings"
)

// Attributes are what operators have recorded about a subject. A check returns them as they are now, and
// not as they were when the token was signed.
type Attributes struct {
	Roles Roles
	// Custom is a JSON object of at most 1024 bytes with claims that operators chose, or empty.
	Custom string
}

// Roles is a set of short names such as "admin": sorted, without repetitions, and separated by commas.
type Roles string

// NewRoles returns the set of these names. A name must not be empty and must not contain a comma.
func NewRoles(names ...string) Roles {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	return Roles(strings.Join(names, ","))
}

// Has reports whether the set contains a name.
func (r Roles) Has(name string) bool {
	for role := range strings.SplitSeq(string(r), ",") {
		if role == name && name != "" {
			return true
		}
	}
	return false
}

// List returns the names in order. It returns nil for an empty set.
func (r Roles) List() []string {
	if r == "" {
		return nil
	}
	return strings.Split(string(r), ",")
}
