package session

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Introspection is a [Fallback] that asks sessiond over HTTP (RFC 7662). sessiond also backfills
// the store, so that the next check of the same session needs no fallback.
type Introspection struct {
	// Limit bounds how many requests run at once. Without a limit, the loss of the store's data would
	// cause a flood of requests. [NewIntrospection] sets a limit of 16.
	Limit *Limit
	// Timeout bounds the time of a request. 0 means 1 second.
	Timeout time.Duration

	url, authorization string
	client             *http.Client
}

var _ Fallback = (*Introspection)(nil)

// NewIntrospection returns a fallback that asks introspectionURL, https://…/oauth/introspect, as an
// OAuth client. The command 'sessiond clients add' makes the client's id and secret.
func NewIntrospection(introspectionURL, clientID, clientSecret string, o RemoteOptions) (*Introspection, error) {
	if err := o.checkURL(introspectionURL); err != nil {
		return nil, fmt.Errorf("session.NewIntrospection: %w", err)
	}
	// RFC 6749 section 2.3.1 requires that the id and the secret are form-encoded.
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(url.QueryEscape(clientID), url.QueryEscape(clientSecret))
	return &Introspection{
		Limit: NewLimit(idleConnections), url: introspectionURL,
		authorization: r.Header.Get("Authorization"), client: o.client(),
	}, nil
}

// introspected is the response of RFC 7662 section 2.2. Unknown members are ignored.
type introspected struct {
	Active    *bool  `json:"active"` // nil if the response lacks this member; the check then fails
	Subject   string `json:"sub"`
	SessionID string `json:"sid"`
	TokenID   string `json:"jti"`

	Roles  []string       `json:"roles"`
	Claims jsontext.Value `json:"claims"`
}

// Check implements [Fallback]. Each call sends a request of its own. If calls shared a request that
// was sent before a revocation, the later calls would accept the revoked session.
func (i *Introspection) Check(ctx context.Context, q Question) (Attributes, error) {
	if err := i.Limit.Enter(ctx); err != nil {
		return Attributes{}, fmt.Errorf("introspect: %w", err)
	}
	defer i.Limit.Leave()
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(i.Timeout, time.Second))
	defer cancel()

	answer, err := i.ask(ctx, q.Token)
	switch {
	case err != nil:
		err = fmt.Errorf("%w: introspect a token of session %s: %w", ErrUnavailable, q.Ref.SessionID, err)
	case answer.Active == nil:
		err = fmt.Errorf("%w: introspect a token of session %s: the response has no member 'active'", ErrUnavailable, q.Ref.SessionID)
	case !*answer.Active:
		err = ErrRevoked
	case q.Ref != Ref{Subject: answer.Subject, SessionID: answer.SessionID, TokenID: answer.TokenID}:
		err = fmt.Errorf("%w: introspect a token of session %s: the response is about another token", ErrUnavailable, q.Ref.SessionID)
	default:
		return Attributes{NewRoles(answer.Roles...), string(answer.Claims)}, nil
	}
	return Attributes{}, err
}

func (i *Introspection) ask(ctx context.Context, token string) (introspected, error) {
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, i.url, strings.NewReader(form.Encode()))
	if err != nil {
		return introspected{}, err
	}
	r.Header.Set("Authorization", i.authorization)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	body, _, err := roundTrip(i.client, r)
	if err != nil {
		return introspected{}, err
	}
	var answer introspected
	if err := json.Unmarshal(body, &answer); err != nil {
		// Leave out the decoder's message, because it could quote the response.
		return introspected{}, fmt.Errorf("%s: the response is not JSON", i.url)
	}
	return answer, nil
}
