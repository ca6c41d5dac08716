package api

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// getJWKS serves /.well-known/jwks.json, the public keys of access tokens (RFC 7517).
func (a *API) getJWKS(q *request) (reply, error) {
	set, err := a.Sessions.Keys.Load().PublicJSON(a.Now())
	if err != nil {
		return reply{}, err
	}
	sum := sha256.Sum256(set)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:]) + `"`
	q.replyHeader.Set("Cache-Control", "public, max-age=300")
	q.replyHeader.Set("ETag", tag)
	if matchesTag(q.Header.Values("If-None-Match"), tag) {
		return reply{status: http.StatusNotModified}, nil
	}
	return ok(jsontext.Value(set)), nil
}

// matchesTag reports whether the field If-None-Match has the value * or lists an entity tag. Caches make
// a tag weak when they compress the body, and weak tags match too (RFC 9110 section 13.1.2).
func matchesTag(values []string, tag string) bool {
	for list := strings.Join(values, ","); list != ""; {
		var item string
		if list, item = cutLast(list, ','); item == "*" || strings.TrimPrefix(item, "W/") == tag {
			return true
		}
	}
	return false
}

// issuerPath returns the path of the issuer, which clients append to the path of the metadata
// (RFC 8414 section 3.1).
func (a *API) issuerPath() string {
	if a.Sessions == nil {
		return ""
	}
	issuer, err := url.Parse(a.Sessions.Issuer)
	if err != nil || strings.ContainsAny(issuer.Path, "{}*") { // the router gives these characters a meaning
		return ""
	}
	return strings.TrimRight(issuer.Path, "/")
}

// getEpochs serves /.well-known/sessiond-epochs, from which verifiers in other processes learn which
// Redis server counts. A cache may keep it for a second: see [session.FetchEpochs].
func (a *API) getEpochs(q *request) (reply, error) {
	document, err := a.Sessions.Store.Epochs().Document(time.Now())
	q.replyHeader.Set("Cache-Control", "public, max-age=1, must-revalidate")
	return ok(document), err
}

// getServerMetadata serves /.well-known/oauth-authorization-server (RFC 8414 section 2).
func (a *API) getServerMetadata(*request) (reply, error) {
	return ok(map[string]any{
		"issuer":                                        a.Sessions.Issuer,
		"token_endpoint":                                a.PublicURL + "/oauth/token",
		"revocation_endpoint":                           a.PublicURL + "/oauth/revoke",
		"introspection_endpoint":                        a.PublicURL + "/oauth/introspect",
		"jwks_uri":                                      a.PublicURL + "/.well-known/jwks.json",
		"response_types_supported":                      []string{},
		"grant_types_supported":                         []string{"refresh_token"},
		"token_endpoint_auth_methods_supported":         []string{"none"},
		"revocation_endpoint_auth_methods_supported":    []string{"none"},
		"introspection_endpoint_auth_methods_supported": []string{"client_secret_basic"},
		"service_documentation":                         a.PublicURL + "/docs",
	}), nil
}
