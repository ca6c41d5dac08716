package api

import (
	"net/http"

	"github.com/go-chi/chi/v5"
)

func notFound(http.ResponseWriter, *http.Request) error { return errNotFound }

// methodNotAllowed names the methods that a path allows (RFC 9110 section 15.5.6). Methods that chi
// does not know come here on any path.
func methodNotAllowed(routes chi.Routes) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		path := r.URL.RawPath
		if path == "" {
			path = r.URL.Path
		}
		err := errNotFound
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
			if routes.Match(chi.NewRouteContext(), method, path) {
				w.Header().Add("Allow", method)
				err = errMethodNotAllowed
			}
		}
		return err
	}
}
