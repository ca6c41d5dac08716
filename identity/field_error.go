package identity

import "strings"

// FieldError says what is wrong with one field of the input.
type FieldError struct {
	Field  string `json:"field"`  // name of the JSON field: "username", "email", "password", "first_name", "last_name"
	Code   string `json:"code"`   // one of the Code constants
	Detail string `json:"detail"` // says for people what is wrong; never quotes the field's value
}

// The codes of field errors.
const (
	CodeRequired   = "required"
	CodeTooShort   = "too_short"
	CodeTooLong    = "too_long"
	CodeInvalid    = "invalid"
	CodeTooCommon  = "too_common"  // a password that is on the list of common passwords
	CodeTooSimilar = "too_similar" // a password made from the user's own username or email
	CodeReserved   = "reserved"    // a username that is on the list Service.ReservedNames
	CodeDomain     = "domain"      // an email whose domain is not on the list Service.Domains
	CodeBreached   = "breached"    // a password that is on the [BreachList]
)

// FieldErrors lists every field that is wrong.
type FieldErrors []FieldError

// Error lists the fields and their codes.
func (e FieldErrors) Error() string {
	return "invalid fields: " + e.join(", ", func(f FieldError) string { return f.Code })
}

// Details lists the fields and their details, for people.
func (e FieldErrors) Details() string {
	return e.join("; ", func(f FieldError) string { return f.Detail })
}

func (e FieldErrors) join(separator string, text func(FieldError) string) string {
	parts := make([]string, len(e))
	for i, f := range e {
		parts[i] = f.Field + ": " + text(f)
	}
	return strings.Join(parts, separator)
}

// problem says what is wrong with a value. It is nil if the value is valid.
type problem struct{ code, detail string }

// check adds the problem p of a field to the list, unless p is nil.
func (e *FieldErrors) check(field string, p *problem) {
	if p != nil {
		*e = append(*e, FieldError{Field: field, Code: p.code, Detail: p.detail})
	}
}

// err returns e, or nil if e is empty, because an empty FieldErrors would be a non-nil error.
func (e FieldErrors) err() error {
	if len(e) == 0 {
		return nil
	}
	return e
}

func invalidField(field string, p *problem) error {
	var errs FieldErrors
	errs.check(field, p)
	return errs.err()
}
