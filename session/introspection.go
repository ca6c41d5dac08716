package session

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// Introspection is the [Fallback] of who cannot reach the ledger: it asks the
// service (RFC 7662), which also puts its answer in the store, so that the next
// check need not ask.
type Introspection struct {
	// Limit bounds how many requests run at once, so that a wiped store does
	// not become a flood of them. A check that gets no turn within Timeout is
	// [ErrUnavailable]. [NewIntrospection] sets 16. Nil: unbounded.
	Limit Limit
	// Timeout bounds waiting for a turn and asking together. Zero: 1 s.
	Timeout time.Duration

	url, authorization string
	client             *http.Client
}

var _ Fallback = (*Introspection)(nil)

// NewIntrospection asks at introspectionURL, https://…/oauth/introspect, as a
// client that sessiond clients add has made.
func NewIntrospection(introspectionURL, clientID, clientSecret string, o RemoteOptions) (*Introspection, error) {
	if err := o.check(introspectionURL); err != nil {
		return nil, fmt.Errorf("session.NewIntrospection: %w", err)
	}
	// RFC 6749 section 2.3.1 wants both form-encoded.
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(url.QueryEscape(clientID), url.QueryEscape(clientSecret))
	return &Introspection{
		Limit: make(Limit, idleConnections), url: introspectionURL,
		authorization: r.Header.Get("Authorization"), client: o.client(),
	}, nil
}

// introspected is RFC 7662 section 2.2. Members that we do not know are skipped.
type introspected struct {
	Active    *bool  `json:"active"` // an answer without it is none
	Subject   string `json:"sub"`
	SessionID string `json:"sid"`
	TokenID   string `json:"jti"`
}

// Check implements [Fallback]. Every caller asks by itself: joining a question
// that was asked before a revocation would bring the revoked session back.
func (i *Introspection) Check(ctx context.Context, q Question) error {
	timeout := i.Timeout
	if timeout == 0 {
		timeout = time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	leave, ok := i.Limit.Enter(ctx)
	if !ok {
		return fmt.Errorf("%w: too many checks wait for introspection", ErrUnavailable)
	}
	defer leave()

	answer, err := i.ask(ctx, q.Token)
	switch {
	case err != nil:
		return fmt.Errorf("%w: introspect a token of session %s: %w", ErrUnavailable, q.Ref.SessionID, err)
	case answer.Active == nil:
		return fmt.Errorf("%w: introspect a token of session %s: the answer is none", ErrUnavailable, q.Ref.SessionID)
	case !*answer.Active:
		return ErrRevoked
	case q.Ref != Ref{Subject: answer.Subject, SessionID: answer.SessionID, TokenID: answer.TokenID}:
		return fmt.Errorf("%w: introspect a token of session %s: the answer is about another token", ErrUnavailable, q.Ref.SessionID)
	default:
		return nil
	}
}

func (i *Introspection) ask(ctx context.Context, token string) (introspected, error) {
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, i.url, strings.NewReader(form.Encode())) //nolint:gosec // G704: the operator names the URL
	if err != nil {
		return introspected{}, err
	}
	r.Header.Set("Authorization", i.authorization)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	body, err := roundTrip(i.client, r)
	if err != nil {
		return introspected{}, err
	}
	var answer introspected
	if err := json.Unmarshal(body, &answer); err != nil {
		// The decoder's own message could quote the answer.
		return introspected{}, fmt.Errorf("%s did not answer in JSON", i.url)
	}
	return answer, nil
}
