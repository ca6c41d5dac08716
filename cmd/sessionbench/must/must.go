// Package must ends the whole run if a step fails, as t.Fatal ends a test. Do and Get panic with
// the error. Catch, in the outermost function, turns the panic into that error again.
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

// Catch must be deferred. It recovers a panic of Do or Get and joins its error to *err.
func Catch(err *error) {
	switch p := recover().(type) {
	case nil:
	case failure:
		*err = errors.Join(p.error, *err)
	default:
		panic(p)
	}
}
