package api

import "net/http"

// gatewayCheck answers /v1/verify on the main port.
func (a *API) gatewayCheck() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := a.check(r.Context(), &checkRequest{
			route: verifyPattern, method: r.Method, requestID: r.Header.Get(requestIDHeader), authorization: r.Header["Authorization"],
			peer: peerAddr(r), header: func(name string) []string { return r.Header[name] },
		})
		h := w.Header()
		for _, field := range answer.header {
			h[field.name] = []string{field.value}
		}
		w.WriteHeader(answer.status)
		_, _ = w.Write(answer.body) // an error means that the gateway closed the connection
	})
}
