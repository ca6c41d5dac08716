package identity

import (
	"fmt"
	"regexp"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxRoles  = 32   // roles of one user
	maxClaims = 1024 // bytes of a user's claims
)

// RoleAdmin is the role of users who may use the administration routes.
const RoleAdmin = "admin"

// roleName matches the name of a role. It may stand in an HTTP header, and in a list with commas.
var roleName = regexp.MustCompile(`^[a-z][a-z0-9._:-]{0,31}$`)

// AttributeChange is a change of the roles and claims of a user. A nil field is not changed.
type AttributeChange struct {
	Roles  *[]string
	Claims *string // a JSON object, or empty for none
}

// check adds the problems of the change to errs, and brings the claims into their stored form.
func (c *AttributeChange) check(errs *FieldErrors) {
	if c.Roles != nil {
		errs.check("roles", checkRoles(*c.Roles))
	}
	if c.Claims != nil {
		claims, p := compactClaims(*c.Claims)
		errs.check("claims", p)
		c.Claims = &claims
	}
}

func checkRoles(names []string) *problem {
	if len(names) > maxRoles {
		return &problem{CodeTooLong, fmt.Sprintf("must have at most %d roles", maxRoles)}
	}
	for _, name := range names {
		if !roleName.MatchString(name) {
			return &problem{CodeInvalid, "a role has 1 to 32 characters: it begins with a-z, and digits, dots, colons, underscores and dashes may follow"}
		}
	}
	return nil
}

// compactClaims returns a JSON object without white space, or "" for an empty one.
func compactClaims(text string) (string, *problem) {
	if text == "" {
		return "", nil
	}
	v := jsontext.Value(text)
	if !v.IsValid() || v.Kind() != '{' || v.Compact() != nil {
		return "", &problem{CodeInvalid, "must be a JSON object"}
	}
	if len(v) > maxClaims {
		return "", &problem{CodeTooLong, fmt.Sprintf("must have at most %d bytes", maxClaims)}
	}
	if len(v) == len("{}") {
		return "", nil
	}
	return string(v), nil
}
