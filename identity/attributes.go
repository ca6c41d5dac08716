package identity

import (
	"context"
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

// AttributeChange is a change of what operators record about a user. Fields that are nil stay as they are.
type AttributeChange struct {
	Roles  *[]string
	Claims *string // a JSON object, or empty for none
}

// SetAttributes changes the roles and claims of a user. Once the caller has enforced the revocation, every
// check of the user's tokens returns the new ones. The revocation is 0 if nothing changed. SetAttributes
// returns FieldErrors or ErrNotFound.
func (s *Service) SetAttributes(ctx context.Context, id string, change AttributeChange) (revocation int64, err error) {
	var errs FieldErrors
	if change.Roles != nil {
		errs.check("roles", checkRoles(*change.Roles))
	}
	if change.Claims != nil {
		claims, p := compactClaims(*change.Claims)
		errs.check("claims", p)
		change.Claims = &claims
	}
	if err := errs.err(); err != nil {
		return 0, err
	}
	return s.Store.SetAttributes(ctx, id, change, s.now())
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
