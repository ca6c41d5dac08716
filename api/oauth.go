package api

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// oauthForm reads the form of RFC 6749: parameters that we do not know are
// skipped (section 3.2), one that we need may come once.
func oauthForm(q *request, name string) (string, url.Values, error) {
	body, media, err := readBody(q)
	if err != nil {
		return "", nil, err
	}
	if media != mediaForm {
		return "", nil, &errRequest{http.StatusUnsupportedMediaType, "unsupported_media_type", "Send application/x-www-form-urlencoded."}
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return "", nil, fieldError("body", "malformed", "is not a valid form")
	}
	for n, values := range form {
		if len(values) > 1 {
			return "", nil, fieldError(fieldName(n), "duplicate", "is given twice")
		}
	}
	return form.Get(name), form, required(name, form.Get(name))
}

// refresh is the token endpoint (RFC 6749 section 6).
func (a *API) refresh(q *request) (reply, error) {
	grant, form, err := oauthForm(q, "grant_type")
	if err != nil {
		return reply{}, err
	}
	if grant != "refresh_token" {
		return reply{}, &errRequest{http.StatusBadRequest, "unsupported_grant_type", "grant_type is refresh_token."}
	}
	if err := required("refresh_token", form.Get("refresh_token")); err != nil {
		return reply{}, err
	}
	set, _, err := a.Sessions.Refresh(q.Context(), form.Get("refresh_token"))
	if err != nil {
		return reply{}, err
	}
	return ok(tokenSet(set, nil))
}

// revoke is the revocation endpoint (RFC 7009): a refresh token ends its
// session, an access token is itself put on the blacklist. Our access tokens
// have dots and our refresh tokens have none, so that no hint is needed.
func (a *API) revoke(q *request) (reply, error) {
	token, _, err := oauthForm(q, "token")
	if err != nil {
		return reply{}, err
	}
	if strings.Contains(token, ".") {
		err = a.Sessions.RevokeToken(q.Context(), token)
	} else {
		_, err = a.Sessions.RevokeRefresh(q.Context(), token)
	}
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK}, nil
}

// jwksMaxAge is how long others may keep our keys, in seconds.
const jwksMaxAge = "300"

func (a *API) jwks(q *request) (reply, error) {
	set, err := a.Sessions.Keys.Load().PublicJSON(a.Now())
	if err != nil {
		return reply{}, err
	}
	sum := sha256.Sum256(set)
	tag := `"` + base64.RawURLEncoding.EncodeToString(sum[:]) + `"`
	rep := reply{
		status: http.StatusOK,
		body:   jsontext.Value(set),
		header: http.Header{"Cache-Control": {"public, max-age=" + jwksMaxAge}, "Etag": {tag}},
	}
	if q.Header.Get("If-None-Match") == tag {
		rep.status, rep.body = http.StatusNotModified, nil
	}
	return rep, nil
}

// serverMetadata is RFC 8414 section 2.
func (a *API) serverMetadata(*request) (reply, error) {
	return ok(struct {
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
	}{
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
	})
}
