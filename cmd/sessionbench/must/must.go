// Package must is for steps whose failure ends the whole run, as Fatal does in a test. They panic
// with the error, and Catch at the top turns the panic into that error again.
package must

import "errors"

type failure struct{ error }

// Do ends the run if err is not nil.
func Do(err error) {
	if err != nil {
		panic(failure{err})
	}
}

// Get returns v, or ends the run if err is not nil.
func Get[T any](v T, err error) T {
	Do(err)
	return v
}

// Catch is deferred. It adds to err the error that ended the run.
func Catch(err *error) {
	switch p := recover().(type) {
	case nil:
	case failure:
		*err = errors.Join(p.error, *err)
	default:
		panic(p)
	}
}
