package identity

import "strings"

// FieldError says what is wrong with one field of what was sent.
type FieldError struct {
	Field  string `json:"field"`  // as the caller knows it: "username", "email", "password", "first_name", "last_name"
	Code   string `json:"code"`   // one of the Code constants
	Detail string `json:"detail"` // a sentence for people; never quotes the value
}

// The codes of field errors.
const (
	CodeRequired   = "required"
	CodeTooShort   = "too_short"
	CodeTooLong    = "too_long"
	CodeInvalid    = "invalid"
	CodeTooCommon  = "too_common"  // a password from the list of common ones
	CodeTooSimilar = "too_similar" // a password made of the user's own name or address
	CodeBreached   = "breached"    // a password that the [BreachList] knows
)

// FieldErrors are all the fields that are wrong.
type FieldErrors []FieldError

// Error lists the fields and codes.
func (e FieldErrors) Error() string {
	parts := make([]string, len(e))
	for i, f := range e {
		parts[i] = f.Field + ": " + f.Code
	}
	return "invalid fields: " + strings.Join(parts, ", ")
}

// details is Error for people.
func (e FieldErrors) details() string {
	parts := make([]string, len(e))
	for i, f := range e {
		parts[i] = f.Field + ": " + f.Detail
	}
	return strings.Join(parts, "; ")
}

// problem is what is wrong with a value; nil when nothing is.
type problem struct{ code, detail string }

// check adds the problem of a field, if there is one.
func (e *FieldErrors) check(field string, p *problem) {
	if p != nil {
		*e = append(*e, FieldError{Field: field, Code: p.code, Detail: p.detail})
	}
}

// err returns nil when no field is wrong: an empty FieldErrors is not a nil error.
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
