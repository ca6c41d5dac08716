package api

import (
	"cmp"
	"net/http"

	"github.com/go-chi/chi/v5"
)

// notFound answers 404 to a request for an unknown path. If the path has routes for other methods,
// it answers 405, and the header Allow lists these methods (RFC 9110 section 15.5.6).
func notFound(routes chi.Routes) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		path := cmp.Or(r.URL.RawPath, r.URL.Path)
		err := errNotFound
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
			if routes.Match(chi.NewRouteContext(), method, path) {
				w.Header().Add("Allow", method)
				err = errMethodNotAllowed
			}
		}
		return err
	}
}
