package identity

import "strings"

// FieldError says what is wrong with one field of the input.
type FieldError struct {
	Field  string `json:"field"`  // its name on the wire: "username", "email", "password", "first_name", "last_name"
	Code   string `json:"code"`   // one of the Code constants
	Detail string `json:"detail"` // a sentence for people; it never quotes the value
}

// The codes of field errors.
const (
	CodeRequired   = "required"
	CodeTooShort   = "too_short"
	CodeTooLong    = "too_long"
	CodeInvalid    = "invalid"
	CodeTooCommon  = "too_common"  // a password from the list of common ones
	CodeTooSimilar = "too_similar" // a password made from the user's own name or address
	CodeBreached   = "breached"    // a password on the [BreachList]
)

// FieldErrors lists every field that is wrong.
type FieldErrors []FieldError

// Error lists the fields and their codes.
func (e FieldErrors) Error() string {
	return "invalid fields: " + e.join(", ", func(f FieldError) string { return f.Code })
}

// details lists the fields and their details, for people.
func (e FieldErrors) details() string {
	return e.join("; ", func(f FieldError) string { return f.Detail })
}

func (e FieldErrors) join(separator string, text func(FieldError) string) string {
	parts := make([]string, len(e))
	for i, f := range e {
		parts[i] = f.Field + ": " + text(f)
	}
	return strings.Join(parts, separator)
}

// problem is what is wrong with a value. A nil problem means that it is valid.
type problem struct{ code, detail string }

// check adds a field's problem, if there is one.
func (e *FieldErrors) check(field string, p *problem) {
	if p != nil {
		*e = append(*e, FieldError{Field: field, Code: p.code, Detail: p.detail})
	}
}

// err returns nil if no field is wrong. An empty FieldErrors would be a non-nil error.
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
