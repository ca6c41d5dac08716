package api

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"
)

// jwksMaxAge is how long verifiers may cache the public keys, in seconds.
const jwksMaxAge = "300"

// getJWKS answers /.well-known/jwks.json (RFC 7517).
func (a *API) getJWKS(q *request) (reply, error) {
	set, err := a.Sessions.Keys.Load().PublicJSON(a.Now())
	if err != nil {
		return reply{}, err
	}
	sum := sha256.Sum256(set)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:]) + `"`
	q.replyHeader.Set("Cache-Control", "public, max-age="+jwksMaxAge)
	q.replyHeader.Set("ETag", tag)
	if q.Header.Get("If-None-Match") == tag {
		return reply{status: http.StatusNotModified}, nil
	}
	return ok(jsontext.Value(set)), nil
}

// serverMetadata is the authorization server metadata of RFC 8414 section 2.
type serverMetadata struct {
	Issuer             string   `json:"issuer"`
	TokenEndpoint      string   `json:"token_endpoint"`
	RevocationEndpoint string   `json:"revocation_endpoint"`
	Introspection      string   `json:"introspection_endpoint"`
	JWKSURI            string   `json:"jwks_uri"`
	ResponseTypes      []string `json:"response_types_supported"`
	GrantTypes         []string `json:"grant_types_supported"`
	AuthMethods        []string `json:"token_endpoint_auth_methods_supported"`
	RevocationMethods  []string `json:"revocation_endpoint_auth_methods_supported"`
	IntrospectMethods  []string `json:"introspection_endpoint_auth_methods_supported"`
	ServiceDocs        string   `json:"service_documentation"`
}

// getServerMetadata answers /.well-known/oauth-authorization-server.
func (a *API) getServerMetadata(*request) (reply, error) {
	return ok(serverMetadata{
		Issuer:             a.Sessions.Issuer,
		TokenEndpoint:      a.PublicURL + "/oauth/token",
		RevocationEndpoint: a.PublicURL + "/oauth/revoke",
		Introspection:      a.PublicURL + "/oauth/introspect",
		JWKSURI:            a.PublicURL + "/.well-known/jwks.json",
		ResponseTypes:      []string{},
		GrantTypes:         []string{"refresh_token"},
		AuthMethods:        []string{"none"},
		RevocationMethods:  []string{"none"},
		IntrospectMethods:  []string{"client_secret_basic"},
		ServiceDocs:        a.PublicURL + "/docs",
	}), nil
}
