package app

import (
	"net/http"
	"net/http/pprof" // it also adds its handlers to http.DefaultServeMux, which nobody serves
)

// addPprof adds the profiles of this process. The command line is not among them, because it may contain
// the values of secrets.
func addPprof(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
}
