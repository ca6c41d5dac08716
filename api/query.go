package api

import "net/url"

// decodeQuery reads the query string into the struct that in points to. It ignores unknown
// parameters.
func decodeQuery(q *request, in any) error {
	values, err := parseQuery(q)
	if err != nil {
		return err
	}
	return fill(in, values, ignoreUnknown)
}

// parseQuery returns the query string. Each parameter appears once and is valid UTF-8.
func parseQuery(q *request) (url.Values, error) {
	values, err := url.ParseQuery(q.URL.RawQuery)
	if err != nil {
		return nil, fieldError("query", "malformed", "is not a valid query string")
	}
	return values, fill(&struct{}{}, values, ignoreUnknown)
}
